"""Constructor fields and per-call arguments, merged and sorted into the parts of a request. Pure functions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from kserve_core.capabilities import ChatRequest, OutputConstraint, TextRequest
from kserve_core.errors import ConfigurationError, UnsupportedParameterError

_STRUCTURED_KINDS = {
    "json": "json_schema",
    "json_schema": "json_schema",
    "regex": "regex",
    "choice": "choice",
    "grammar": "grammar",
    "json_object": "json_object",
}
_OURS = ("stream", "stream_options")
"""What a caller may carry over from elsewhere; this package decides it by the method that is called."""


@dataclass(slots=True)
class Parts:
    """What one call's arguments come to."""

    params: dict[str, Any]
    model: str | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    constraint: OutputConstraint | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def chat(self, messages: Sequence[Mapping[str, Any]]) -> ChatRequest:
        """These parts as a chat request."""
        return ChatRequest(
            messages=messages,
            model=self.model,
            params=self.params,
            tools=self.tools,
            # A choice among no tools is refused by servers.
            tool_choice=self.tool_choice if self.tools else None,
            parallel_tool_calls=self.parallel_tool_calls if self.tools else None,
            constraint=self.constraint,
            extra_body=self.extra_body,
            headers=self.headers,
        )

    def text(self, prompt: str, runtime: str) -> TextRequest:
        """These parts as a completion request.

        Raises:
            UnsupportedParameterError: If tools were asked for.
        """
        if self.tools:
            msg = f"{runtime} takes tools in chat requests only, and this model is used for text completion."
            raise UnsupportedParameterError(msg, hint="Set is_chat_model=True, or use a ReActAgent.")
        return TextRequest(
            prompts=[prompt],
            model=self.model,
            params=self.params,
            constraint=self.constraint,
            extra_body=self.extra_body,
            headers=self.headers,
        )


def sort_arguments(*layers: Mapping[str, Any], extra_body: Mapping[str, Any]) -> Parts:
    """Merges arguments, later layers over earlier ones, and sorts them into a request's parts.

    An argument that is None counts as not given, and so takes back one of an earlier layer.

    Raises:
        ConfigurationError: If an argument's value cannot be used.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        merged.update(layer)
        if "max_completion_tokens" in layer:
            merged["max_tokens"] = merged.pop("max_completion_tokens")
    for name in _OURS:
        merged.pop(name, None)
    body = {**extra_body, **(merged.pop("extra_body", None) or {})}
    parts = Parts(
        params={},
        model=merged.pop("model", None),
        tools=tuple(merged.pop("tools", None) or ()),
        tool_choice=merged.pop("tool_choice", None),
        parallel_tool_calls=merged.pop("parallel_tool_calls", None),
        constraint=constraint_of(merged.pop("response_format", None), merged.pop("structured_outputs", None)),
        extra_body=body,
        headers=merged.pop("extra_headers", None) or {},
    )
    stop = merged.get("stop")
    if isinstance(stop, str):
        merged["stop"] = [stop]
    parts.params = {name: value for name, value in merged.items() if value is not None}
    return parts


def given(source: Any, names: Iterable[str]) -> dict[str, Any]:
    """The attributes of these names that are set."""
    values = source.__dict__
    return {name: value for name in names if (value := values.get(name)) is not None}


def constraint_of(response_format: Any, structured_outputs: Any = None) -> OutputConstraint | None:
    """The form an answer must take, from OpenAI's `response_format` or vLLM's `structured_outputs`.

    `response_format` may also be a pydantic class.

    Raises:
        ConfigurationError: If both are given, or one cannot be read.
    """
    if response_format is not None and structured_outputs is not None:
        msg = "response_format and structured_outputs are two ways to say the same thing; give one."
        raise ConfigurationError(msg)
    if isinstance(response_format, type) and issubclass(response_format, BaseModel):
        return schema_constraint(response_format)
    if response_format is not None:
        return _from_response_format(response_format)
    if structured_outputs is None:
        return None
    known = {name: value for name, value in structured_outputs.items() if name in _STRUCTURED_KINDS}
    if len(structured_outputs) != 1 or not known:
        msg = f"structured_outputs takes exactly one of {', '.join(_STRUCTURED_KINDS)}."
        raise ConfigurationError(msg)
    ((name, value),) = known.items()
    kind = _STRUCTURED_KINDS[name]
    if isinstance(value, type) and issubclass(value, BaseModel):
        return schema_constraint(value)
    return OutputConstraint(kind, None if kind == "json_object" else value)  # type: ignore[arg-type]


def _from_response_format(value: Any) -> OutputConstraint | None:
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return OutputConstraint("json_object")
    schema = value.get("json_schema") if kind == "json_schema" else None
    if not isinstance(schema, Mapping) or "schema" not in schema:
        msg = "response_format must be a pydantic class, or a mapping of type text, json_object or json_schema."
        raise ConfigurationError(msg)
    return OutputConstraint("json_schema", schema["schema"], name=schema.get("name"), strict=schema.get("strict"))


def schema_constraint(output_cls: type[BaseModel]) -> OutputConstraint:
    """The constraint that makes an answer parse as this class."""
    return OutputConstraint("json_schema", output_cls.model_json_schema(), name=output_cls.__name__)
