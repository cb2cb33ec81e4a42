"""The models of one server and what becomes of a request to one of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from kserve_core.devserver.settings import Model, Settings
from kserve_core.devserver.wires.v2 import generation, huggingface, probes, vectors, vllm_backend
from kserve_core.devserver.wires.v2.checks import check_inputs, check_outputs
from kserve_core.devserver.wires.v2.errors import V2Error
from kserve_core.devserver.wires.v2.request import Answered, Asked, Served
from kserve_core.devserver.wires.v2.ways import Ways


class Repository:
    """The models of one server.

    A model's name says what its tensors are for:

    - `...embed...` takes texts and gives vectors; with `...ids...` it takes token ids and gives token states
      (`...states...`: nothing else), with `...batch...` it is declared as a batching model, with `...truncat...` it
      has an input that cuts long texts, with `...fp16...` its output is FP16
    - `...rerank...` takes a query and passages and gives scores; `...ids...` and `...batch...` as above,
      `...logits...` without the sigmoid, `...columns...` with two columns of logits
    - `...echo...`, `...fails...`, `...versioned...`, `...broken...`: every datatype, every error, several versions,
      a model that cannot be loaded
    - anything else generates text: on Triton as the vLLM backend does, with `...ensemble...` as TensorRT-LLM's
      ensemble, with `...plain...` as a model that answers once; on MLServer `...hf...` is its Hugging Face runtime

    Args:
        settings: The server.
        ways: Its dialect.

    Attributes:
        models: The models by name.
        graphs: Names of what is served without tensors; OpenVINO only.
    """

    def __init__(self, settings: Settings, ways: Ways) -> None:
        self._settings = settings
        self._ways = ways
        self._lock = threading.Lock()
        self.models: dict[str, Served] = {}
        self.graphs: set[str] = set()
        for model in settings.models:
            for name in (model.name, *model.aliases):
                made = self._made(model)
                if made is None:
                    self.graphs.add(name)
                else:
                    made.name = name
                    if made.newest is None and ways.versions == "numbers":
                        made.newest = made.versions[-1]
                    self.models[name] = made

    def find(self, name: str, version: str | None = None) -> Served:
        """The model of a name, loaded or not.

        Raises:
            V2Error: There is none, or not in this version.
        """
        ways, found = self._ways, self.models.get(name)
        gone = found is not None and not found.ready and ways.forgets
        if found is None or (gone and (found.loadable or ways.key == "kserve")):
            text = ways.unknown_version if version is not None and ways.key == "mlserver" else ways.unknown_model
            raise V2Error(text.format(model=name, version=version), "NOT_FOUND")
        if version and ways.versions != "none" and version not in found.versions:
            raise V2Error(ways.unknown_version.format(model=name, version=version), "NOT_FOUND")
        return found

    def loaded(self, name: str, version: str | None = None) -> Served:
        """The model of a name, which is ready.

        Raises:
            V2Error: It is not.
        """
        found = self.find(name, version)
        if not found.ready:
            text, code = self._ways.not_ready
            raise V2Error(text.format(model=name), code)
        return found

    def answers(self, asked: Asked) -> Iterator[Answered]:
        """The model's answers to a request; the checks come with the first.

        Raises:
            V2Error: The request is refused, or the model fails.
        """
        model = self.loaded(asked.model, asked.version)
        asked.version = asked.version or model.newest
        if self._ways.checks_inputs:
            check_inputs(model, asked)
        elif self._ways.key == "kserve":
            check_outputs(model, asked, word="Unexpected")
        try:
            for answered in model.run(asked):
                if asked.outputs and self._ways.checks_inputs:
                    answered.outputs = [output for output in answered.outputs if output.name in asked.outputs]
                yield answered
        except V2Error as error:
            error.executed = True
            raise

    def load(self, name: str) -> None:
        """Load a model.

        Raises:
            V2Error: There is none, or it cannot be loaded.
        """
        found = self.models.get(name)
        if self._ways.key == "kserve":
            msg = f"Model with name {name} is not ready."
            raise V2Error(msg, "UNAVAILABLE")  # seen for every model
        if found is None and self._ways.key == "triton":
            msg = f"failed to load '{name}', failed to poll from model repository"
            raise V2Error(msg, "INTERNAL")
        model = self.find(name) if found is None else found
        if not model.loadable:
            msg = f"load failed for model '{name}': version 1 is at UNAVAILABLE state: Internal: cannot be loaded;\n"
            raise V2Error(msg)
        with self._lock:
            model.ready = True

    def unload(self, name: str) -> None:
        """Unload a model.

        Raises:
            V2Error: There is none.
        """
        model = self.models.get(name) or self.find(name)
        with self._lock:
            model.ready = False

    def reset(self) -> None:
        """Load everything that was unloaded."""
        with self._lock:
            for model in self.models.values():
                model.ready = model.loadable

    def _made(self, model: Model) -> Served | None:
        name, key = model.name.lower(), self._ways.key
        if "embed" in name:
            if "hf" in name and key == "mlserver":
                return huggingface.feature_extraction(model)
            if "ids" in name:
                return vectors.token_embedding(model)
            return vectors.text_embedding(model, "FP16" if "fp16" in name else "FP32")
        if "rerank" in name:
            return vectors.token_rerank(model) if "ids" in name else vectors.text_rerank(model)
        if "echo" in name:
            return probes.echo(model, column=self._ways.text_column)
        if "fails" in name:
            return probes.fails(model, inference="INTERNAL" if key == "kserve" else "INVALID_ARGUMENT")
        if "versioned" in name:
            made = probes.versioned(model, named=self._ways.versions == "names")
            made.newest = made.versions[-1]
            return made
        if "broken" in name:
            broken = probes.fails(model)
            broken.ready = broken.loadable = False
            return broken
        return self._text(model)

    def _text(self, model: Model) -> Served | None:
        name, key = model.name.lower(), self._ways.key
        if key == "openvino":
            return None  # it generates text under /v3 only
        if "hf" in name and key == "mlserver":
            return huggingface.text_generation(model, self._settings)
        if "ensemble" in name:
            return generation.ensemble(model, self._settings)
        if key == "triton" and "plain" not in name:
            return vllm_backend.vllm_backend(model, self._settings)
        return generation.plain(model, self._settings, column=self._ways.text_column, reasoned=key != "triton")
