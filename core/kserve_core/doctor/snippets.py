"""Programs to paste, made for what was found. A token is in them by its file or variable, never itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kserve_core.credentials import EnvToken, FileToken
from kserve_core.doctor.tasks import Task, Tried
from kserve_core.endpoint import TOKEN_VARIABLE, Endpoint
from kserve_core.trust import PEM_MARK

_PREFIXES = {
    "vllm": "VLLM",
    "caikit": "Caikit",
    "tgis": "TGIS",
    "triton": "Triton",
    "mlserver": "MLServer",
    "kserve": "MLServer",
    "openvino": "OpenVINO",
}
_TENSOR_SERVERS = frozenset({"triton", "mlserver", "openvino", "kserve"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What programs are made from.

    Attributes:
        endpoint: The endpoint.
        base_url: The URL to give.
        runtime: The runtime's key.
        tried: What works.
        several: Whether a model has to be named.
        model: The model's name, if it is known.
        asking: How the cluster was asked for the endpoint (`name`, `namespace`, ...); None if it was not.
    """

    endpoint: Endpoint
    base_url: str
    runtime: str
    tried: tuple[Tried, ...] = ()
    several: bool = False
    model: str | None = None
    asking: Mapping[str, object] | None = None


@dataclass(slots=True)
class _Program:
    imports: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    maker: str = ""


def snippets(made: Made) -> dict[str, str]:
    """The programs, by framework; one for tensors if the models are for nothing else.

    Args:
        made: What to make them from.
    """
    if made.runtime not in _PREFIXES:
        return {}
    tasks: dict[Task, Tried] = {item.task: item for item in made.tried if item.outcome == "works"}
    untried = [item for item in made.tried if item.task == "generate" and item.outcome == "untried" and item.note]
    if not tasks and untried and made.runtime != "kserve":
        tasks = {"generate": Tried(task="generate", outcome="works", model=made.model, chat=made.runtime == "vllm")}
    if not tasks:
        return {"kserve_core": _tensors(made)} if made.runtime in _TENSOR_SERVERS else {}
    return {"langchain": _langchain(made, tasks), "llamaindex": _llamaindex(made, tasks)}


_DEFAULTS = {"allow_exec": False, "use_cluster_token": False, "where": "auto"}
"""Arguments of `from_inference_service` that are left out at these values."""


def _langchain(made: Made, tasks: Mapping[Task, Tried]) -> str:
    prefix = _PREFIXES[made.runtime]
    program = _connection(made)
    names, bodies = [], []
    for task, tried in tasks.items():
        if task == "generate":
            name = f"Chat{prefix}" if tried.chat else _text_class(prefix)
            text = ".text" if tried.chat else ""
            body = [*_made("model", name, program, made, tried), f'print(model.invoke("Say hello."){text})']
        elif task == "embed":
            name = f"{prefix}Embeddings"
            body = [*_made("embeddings", name, program, made, tried), 'print(len(embeddings.embed_query("Hello")))']
        else:
            name = f"{prefix}Rerank"
            call = 'print(reranker.rerank(["A dog barks.", "Stocks fell."], "Which animal barks?"))'
            body = [*_made("reranker", name, program, made, tried), call]
        names.append(name)
        bodies.append("\n".join(body))
    return _assembled(program, f"from langchain_kserve import {', '.join(sorted(names))}", bodies)


def _llamaindex(made: Made, tasks: Mapping[Task, Tried]) -> str:
    prefix = _PREFIXES[made.runtime]
    program = _connection(made)
    names, bodies = [], []
    for task, tried in tasks.items():
        if task == "generate":
            name = _text_class(prefix)
            body = _made("llm", name, program, made, tried)
            if tried.chat:
                program.imports.add("from llama_index.core.llms import ChatMessage")
                body.append('print(llm.chat([ChatMessage(role="user", content="Say hello.")]))')
            else:
                body.append('print(llm.complete("Say hello."))')
        elif task == "embed":
            name = f"{prefix}Embedding"
            body = _made("embed_model", name, program, made, tried)
            body.append('print(len(embed_model.get_text_embedding("Hello")))')
        else:
            name = f"{prefix}Rerank"
            program.imports.add("from llama_index.core.schema import NodeWithScore, TextNode")
            body = _made("reranker", name, program, made, tried)
            body.append('nodes = [NodeWithScore(node=TextNode(text=t)) for t in ("A dog barks.", "Stocks fell.")]')
            body.append('print(reranker.postprocess_nodes(nodes, query_str="Which animal barks?"))')
        names.append(name)
        bodies.append("\n".join(body))
    return _assembled(program, f"from llamaindex_kserve import {', '.join(sorted(names))}", bodies)


def _tensors(made: Made) -> str:
    made = replace(made, asking=None)  # the client for tensors is told where to go
    program = _connection(made)
    tried = Tried(task="generate", outcome="untried", model=made.model)
    if made.model:
        program.arguments.append(f"model={quoted(made.model)},")
    if made.runtime != "kserve":  # which every class has to be told
        program.arguments.insert(0, f"server={quoted(made.runtime)},")
    lines = _call("client", "InferenceClient", program.arguments)
    lines.append(
        "print(client.model_metadata())  # then client.infer({name: values})"
        if tried.model
        else "print(client.repository_index())  # then client.infer({name: values}, model=...)"
    )
    return _assembled(program, "from kserve_core import InferenceClient", ["\n".join(lines)])


def _text_class(prefix: str) -> str:
    return "VLLM" if prefix == "VLLM" else f"{prefix}LLM"


def _connection(made: Made) -> _Program:
    endpoint, program = made.endpoint, _Program()
    if made.asking is not None:
        _service(made.asking, program)
    else:
        program.arguments.append(f"base_url={quoted(made.base_url)},")
    if made.asking is None or not made.asking.get("use_cluster_token"):
        _token(endpoint, program)
    _trust(endpoint, program, found_again=made.asking is not None)
    if endpoint.discovered is not None and endpoint.discovered.headers and made.asking is None:
        pairs = ", ".join(f"{quoted(name)}: {quoted(value)}" for name, value in endpoint.discovered.headers)
        program.arguments.append(f"default_headers={{{pairs}}},")
    if endpoint.allow_insecure_token:
        program.arguments.append("allow_insecure_token=True,")
    if made.runtime == "kserve":
        program.arguments.append('server="kserve",')
    return program


def _service(asking: Mapping[str, object], program: _Program) -> None:
    program.maker = ".from_inference_service"
    for name, value in asking.items():
        if value is None or value == _DEFAULTS.get(name):
            continue
        shown = repr(value) if isinstance(value, bool) else quoted(str(value))
        program.arguments.append(f"{shown}," if name == "name" else f"{name}={shown},")


def _token(endpoint: Endpoint, program: _Program) -> None:
    token = endpoint.token
    if token is None:
        if endpoint.sends_credentials:
            program.notes.append("# The token was in an Authorization header; give it as api_key.")
        return
    if isinstance(token, EnvToken) and token.name == TOKEN_VARIABLE:
        program.notes.append(f"# The token is taken from the environment variable {TOKEN_VARIABLE}.")
    elif isinstance(token, EnvToken):
        program.imports.add("from kserve_core import EnvToken")
        program.arguments.append(f"api_key=EnvToken({quoted(token.name)}),")
    else:
        path = token.path if isinstance(token, FileToken) else "token"
        note = "" if isinstance(token, FileToken) else "  # a file that holds the token"
        program.imports.add("from pathlib import Path")
        program.arguments.append(f"api_key=Path({quoted(path)}),{note}")


def _trust(endpoint: Endpoint, program: _Program, *, found_again: bool) -> None:
    trust = endpoint.trust
    files = [item for item in trust.ca_cert if PEM_MARK not in item]
    if len(files) < len(trust.ca_cert) and not found_again:
        sources = [] if endpoint.discovered is None else [item.source for item in endpoint.discovered.authorities]
        where = f" ({'; '.join(sources)})" if sources else ""
        program.notes.append(f"# Save the CA certificates{where} as ca.crt.")
        files.append("ca.crt")
    if len(files) == 1:
        program.arguments.append(f"ca_cert={quoted(files[0])},")
    elif files:
        program.arguments.append(f"ca_cert=[{', '.join(map(quoted, files))}],")
    if trust.client_cert is not None:
        cert, key, password = trust.client_cert
        if key is None:
            program.arguments.append(f"client_cert={quoted(cert)},")
        else:
            program.arguments.append(f"client_cert=({quoted(cert)}, {quoted(key)}),")
        if password is not None:
            program.notes.append("# Add the key's password to client_cert as its third part.")
    if not trust.verify:
        program.arguments.append("verify=False,  # certificates are not checked")


def _made(variable: str, name: str, program: _Program, made: Made, tried: Tried) -> list[str]:
    model = tried.model or (made.model if made.several else None)
    needed = model is not None and (made.several or made.runtime in _TENSOR_SERVERS)
    return _call(
        variable,
        f"{name}{program.maker}",
        [*program.arguments, *([f"model={quoted(model)},"] if model and needed else [])],
    )


def _call(variable: str, name: str, arguments: list[str]) -> list[str]:
    if len(arguments) == 1:
        return [f"{variable} = {name}({arguments[0].rstrip(',')})"]
    return [f"{variable} = {name}(", *(f"    {argument}" for argument in arguments), ")"]


def _assembled(program: _Program, main: str, bodies: list[str]) -> str:
    standard = [line for line in program.imports if line.startswith("from pathlib")]
    others = sorted({*(line for line in program.imports if line not in standard), main})
    parts = ["\n".join(standard)] if standard else []
    parts.append("\n".join(others))
    body = "\n\n".join(bodies)
    parts.append("\n".join([*program.notes, body]))
    return "\n\n".join(parts) + "\n"


def quoted(text: str) -> str:
    """A text as a Python literal."""
    plain = text.isprintable() and '"' not in text and "\\" not in text
    return f'"{text}"' if plain else repr(text)
