"""What of a request reaches a model on which server: its tensors' datatypes and its parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn

from kserve_core.errors import ConfigurationError, UnsupportedParameterError
from kserve_core.runtimes.open_inference.dialects import Dialect
from kserve_core.runtimes.open_inference.values import InferRequest

_INT64 = range(-(2**63), 2**63)
_UINT64 = range(2**64)


def check_tensors(request: InferRequest, dialect: Dialect) -> None:
    """Refuses tensors that cannot be told apart, or that the server has no datatype for or would cut.

    Raises:
        ConfigurationError: If there is one.
    """
    names = set()
    for tensor in request.inputs:
        if tensor.name in names:
            msg = f"Two inputs are named {tensor.name!r}."
            raise ConfigurationError(msg)
        names.add(tensor.name)
        if tensor.datatype == "BF16" and not dialect.bfloat:
            msg = f"The input {tensor.name!r} is BF16, which {dialect.title} does not know."
            raise UnsupportedParameterError(msg, hint="Send it as FP32, or as the model declares it.")
        if dialect.c_strings and any(isinstance(value, str) and "\0" in value for value in tensor.values or ()):
            msg = f"The input {tensor.name!r} has a text with a NUL character, at which {dialect.title} ends it."
            raise ConfigurationError(msg, hint="Take it out, so that nothing is lost behind it.")


def rest_parameters(request: InferRequest, dialect: Dialect) -> InferRequest:
    """The request with parameters that JSON can hold and the server takes.

    Raises:
        ConfigurationError: If one cannot be sent.
    """
    if not request.parameters:
        return request
    return replace(
        request, parameters={name: json_value(name, value, dialect) for name, value in request.parameters.items()}
    )


def fill_grpc_parameters(target: Any, parameters: Mapping[str, Any], dialect: Dialect) -> None:
    """Puts parameters into a message's map.

    Raises:
        UnsupportedParameterError: If a value has no form that would reach the server.
    """
    for name, given in parameters.items():
        value = plain(given)
        parameter = target[_name(name)]
        if isinstance(value, bool):
            parameter.bool_param = value
        elif isinstance(value, str):
            parameter.string_param = _encodable(name, value)
        elif isinstance(value, int):
            if value in _INT64:
                parameter.int64_param = value
            elif value in _UINT64 and dialect.float_parameters:
                parameter.uint64_param = value
            else:
                _refuse(name, "is a whole number of more than 64 bits", "Send it as text.")
        elif isinstance(value, float):
            if not dialect.float_parameters:
                hint = "Send it as text if the model reads that, as an input, or over REST (protocol='rest')."
                _refuse(name, f"is a float, which {dialect.title} drops from gRPC requests without a word", hint)
            parameter.double_param = value
        else:
            _refuse(
                name,
                f"is of type {type(given).__name__}, which gRPC's parameters cannot hold",
                "They are text, numbers or booleans.",
            )


def plain(value: Any) -> Any:
    """A numpy number as Python's own; everything else as it is."""
    item = getattr(value, "item", None)
    return item() if callable(item) and getattr(value, "shape", None) == () else value


def json_value(name: Any, given: Any, dialect: Dialect) -> Any:
    """A request parameter as JSON can hold it.

    Raises:
        ConfigurationError: If it cannot, or the server does not take such a one.
    """
    _name(name)
    value = plain(given)
    if isinstance(value, float) and not math.isfinite(value):
        _refuse(name, f"is {value}, which JSON does not have", "Over gRPC it can be sent.")
    if isinstance(value, str):
        return _encodable(name, value)
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and not (value in _INT64 or value in _UINT64):
        _refuse(name, "is a whole number of more than 64 bits", "Send it as text.")
    if dialect.scalar_parameters and not isinstance(value, (int, float)):
        _refuse(
            name,
            f"is of type {type(given).__name__}, which {dialect.title} does not take",
            "Its parameters are text, numbers or booleans; lists are sent as inputs.",
        )
    if not _finite(value):
        _refuse(name, "holds NaN or infinity, which JSON does not have", "Send them as text.")
    return value


def _finite(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        msg = f"A request parameter's name must be text, not {name!r}."
        raise ConfigurationError(msg)
    return name


def _encodable(name: Any, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        msg = f"The request parameter {name!r} holds half of a surrogate pair, which has no UTF-8 form."
        raise ConfigurationError(msg) from None
    return value


def _refuse(name: Any, problem: str, hint: str) -> NoReturn:
    msg = f"The request parameter {name!r} {problem}."
    raise UnsupportedParameterError(msg, hint=hint)
