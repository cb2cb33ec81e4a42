"""Where the servers that speak the protocol differ.

The facts were seen on the wire (Triton 2.51, MLServer 1.7.1, KServe's SDK server 0.21) or are documented (OpenVINO
Model Server).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Streaming = Literal["generate", "infer", "none"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """A server's ways.

    Attributes:
        title: The server's name as people write it.
        binary_input: Whether REST requests may carry raw tensors. MLServer answers 422.
        binary_output: Whether REST answers may carry raw tensors when asked. MLServer ignores the wish.
        rest_generation: `generate`: flat JSON at `/generate` and `/generate_stream` (Triton). `infer`: V2 objects at
            `/infer_stream` (MLServer). `none`: no text routes.
        grpc_stream: Whether there is a `ModelStreamInfer` for models.
        wrapped_stream: Whether its messages are `ModelStreamInferResponse` (Triton, OpenVINO), or bare
            `ModelInferResponse` (MLServer).
        final_response: Whether the request parameter `triton_enable_empty_final_response` asks for a last empty
            message.
        float_parameters: Whether gRPC request parameters may be floats; MLServer and KServe drop them without a word.
        text_column: Whether text tensors of unknown rank are `[N, 1]` and not `[N]`.
        model_config: Whether `/config` and `ModelConfig` tell batch limits and decoupling.
        repository_index: Whether the repository can be listed.
        model_list: Whether `GET /v2/models` lists the models (KServe).
        numeric_versions: Whether versions are whole numbers only.
        restricted_header: The gRPC metadata key that carries the token where the server guards an API itself.
        binary_output_request: Whether one request parameter asks for all outputs raw; else each output is named.
        versions: Whether models have versions that can be asked for.
        quoted_names: Whether the server decodes `%20` in a path. Triton looks a model up by what the path says
            literally.
        scalar_parameters: Whether request parameters over REST are text, numbers and booleans only.
        json_halves: Whether FP16 may travel as JSON numbers.
        bfloat: Whether there may be BF16.
        narrow_json: Whether INT64 and UINT64 in JSON are whole numbers of 32 bits only (OpenVINO).
        c_strings: Whether a text ends at its first NUL character (OpenVINO).
        strict_inputs: Whether the server itself refuses inputs that a model does not declare, and lacking ones; with
            the others that is up to the model, whose declaration may be incomplete.
        kserve_repository: Whether the gRPC repository calls take KServe's messages, whose fields have other numbers.
    """

    title: str
    binary_input: bool = False
    binary_output: bool = False
    rest_generation: Streaming = "none"
    grpc_stream: bool = False
    wrapped_stream: bool = True
    final_response: bool = False
    float_parameters: bool = False
    text_column: bool = False
    model_config: bool = False
    repository_index: bool = False
    model_list: bool = False
    numeric_versions: bool = False
    restricted_header: str | None = None
    binary_output_request: bool = False
    versions: bool = True
    quoted_names: bool = False
    scalar_parameters: bool = False
    json_halves: bool = False
    bfloat: bool = True
    narrow_json: bool = False
    c_strings: bool = False
    strict_inputs: bool = False
    kserve_repository: bool = False


TRITON = Dialect(
    title="Triton",
    binary_input=True,
    binary_output=True,
    rest_generation="generate",
    grpc_stream=True,
    final_response=True,
    float_parameters=True,
    model_config=True,
    repository_index=True,
    numeric_versions=True,
    restricted_header="triton-grpc-protocol-authorization",
    binary_output_request=True,
    scalar_parameters=True,
    strict_inputs=True,
)
MLSERVER = Dialect(
    title="MLServer",
    rest_generation="infer",
    grpc_stream=True,
    wrapped_stream=False,
    repository_index=True,
    quoted_names=True,
    json_halves=True,
    bfloat=False,
)
KSERVE = Dialect(
    title="KServe",
    binary_input=True,
    binary_output=True,
    model_list=True,
    binary_output_request=True,
    versions=False,
    quoted_names=True,
    scalar_parameters=True,
    bfloat=False,
    kserve_repository=True,
)
OPENVINO = Dialect(
    title="OpenVINO Model Server",
    binary_input=True,
    binary_output=True,
    grpc_stream=True,
    numeric_versions=True,
    bfloat=False,
    narrow_json=True,
    c_strings=True,
    strict_inputs=True,
)
PLAIN = Dialect(title="The server", restricted_header=TRITON.restricted_header)
"""A server of which nothing is known: only what all of them take."""

DIALECTS: dict[str, Dialect] = {"triton": TRITON, "mlserver": MLSERVER, "openvino": OPENVINO, "kserve": KSERVE}


def dialect_named(name: str) -> Dialect:
    """The ways of the server that calls itself so (`triton`, `mlserver`, `kserve`, `OpenVINO Model Server`)."""
    lowered = name.lower()
    return next((dialect for key, dialect in DIALECTS.items() if key in lowered), PLAIN)
