"""The models as Triton's Python backend wants them; a repository's `model.py` imports `TritonPythonModel` from here."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import numpy as np
import triton_python_backend_utils as pb
from runtimes.v2.behaviour import Arrays, Behaviour, RefusedError, make

_FINAL = pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    """Any of the models; which one, its name says."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads it, or not."""
        name = args["model_name"]
        if name == "broken":
            msg = "this model never loads"
            raise RuntimeError(msg)
        config = json.loads(args["model_config"])
        self._decoupled = bool(config.get("model_transaction_policy", {}).get("decoupled"))
        self._own = {"echo_types": _echo, "fails": _fail}.get(name)
        self._behaviour = None if self._own else make(name, args["model_version"])

    def execute(self, requests: list[Any]) -> list[Any] | None:
        """Answers; a model that sends as many answers as it likes does so from a thread of each request."""
        if not self._decoupled:
            return [self._own(one) if self._own else _whole(self._behaviour, one) for one in requests]
        for request in requests:
            work = (self._behaviour, request, request.get_response_sender())
            threading.Thread(target=_pieces, args=work, daemon=True).start()
        return None


def _inputs(request: Any) -> Arrays:
    return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}


def _parameters(request: Any) -> dict[str, Any]:
    return json.loads(request.parameters() or "{}")


def _response(found: dict[str, np.ndarray], request: Any) -> Any:
    wanted = set(request.requested_output_names())
    return pb.InferenceResponse([pb.Tensor(name, array) for name, array in found.items() if name in wanted])


def _error(text: str, code: int) -> Any:
    return pb.InferenceResponse(error=pb.TritonError(text, code))


def _whole(behaviour: Behaviour, request: Any) -> Any:
    try:
        return _response(behaviour.answer(_inputs(request), _parameters(request)), request)
    except RefusedError as error:
        return _error(str(error), pb.TritonError.INVALID_ARG)


def _pieces(behaviour: Behaviour, request: Any, sender: Any) -> None:
    sent = 0
    try:
        inputs = _inputs(request)
        pause = 0.01 if behaviour.slow(inputs) else 0
        for found in behaviour.stream(inputs, _parameters(request)):
            if sender.is_cancelled():
                pb.Logger.log_info(f"cancelled after {sent} pieces")
                break
            sender.send(_response(found, request))
            sent += 1
            time.sleep(pause)
    except RefusedError as error:
        sender.send(_error(str(error), pb.TritonError.INVALID_ARG))
    except Exception as error:
        sender.send(_error(str(error), pb.TritonError.INTERNAL))
    sender.send(flags=_FINAL)


def _echo(request: Any) -> Any:
    """Each `in_x` as `out_x`, and the request's parameters as JSON."""
    found = []
    for tensor in request.inputs():
        name = tensor.name().replace("in_", "out_")
        if name == "out_bf16":  # NumPy has no such type
            found.append(pb.Tensor.from_dlpack(name, tensor.to_dlpack()))
        else:
            found.append(pb.Tensor(name, tensor.as_numpy()))
    found.append(pb.Tensor("params", np.array([(request.parameters() or "").encode()], np.object_)))
    return pb.InferenceResponse(found)


def _fail(request: Any) -> Any:
    """The error that is asked for; `RAISE` is an exception, `SLEEP` takes five seconds."""
    code = pb.get_input_tensor_by_name(request, "code").as_numpy().reshape(-1)[0].decode()
    if code == "RAISE":
        msg = "model raised"
        raise RuntimeError(msg)
    if code == "SLEEP":
        time.sleep(5)
    if code in {"SLEEP", "OK"}:
        return pb.InferenceResponse([pb.Tensor("out", np.array([b"ok"], np.object_))])
    return _error(f"asked for {code}", getattr(pb.TritonError, code))
