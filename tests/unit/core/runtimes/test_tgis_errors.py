"""Error statuses, as the wire facts list them."""

from __future__ import annotations

import pytest
from unit.core.runtimes.tgis_wire import Server

from kserve_core.capabilities import TextRequest
from kserve_core.errors import (
    ContextOverflowError,
    InvalidRequestError,
    NotFoundError,
    RateLimitError,
    RequestTooLargeError,
    ServerError,
)


def failure(code, details):
    client = Server(Generate=(code, details), GenerateStream=(code, details)).client()
    request = TextRequest(prompts=["a"])
    with pytest.raises(Exception) as whole:
        client.run(client.runtime.generate(request))
    with pytest.raises(Exception) as pieces:
        list(client.stream(client.runtime.stream_generate(request)))
    assert type(whole.value) is type(pieces.value)
    return whole.value


@pytest.mark.parametrize(
    "details",
    [
        "input tokens (1600) plus prefix length (0) must be < 512",
        "input tokens (500) plus prefix length (0) plus min_new_tokens (20) must be <= 512",
    ],
)
def test_too_long(details):
    error = failure("INVALID_ARGUMENT", details)
    assert type(error) is ContextOverflowError
    assert details in str(error)
    assert "truncate_prompt_tokens" in error.hint
    assert (error.layer, error.retryable) == ("model", False)


@pytest.mark.parametrize(
    ("details", "word"),
    [
        ("max_new_tokens must be <= 1024", "max_tokens"),
        ("min_new_tokens must be <= max_new_tokens", "min_tokens"),
        ("can specify at most 6 non-empty stop sequences, each not more than 240 UTF8 bytes", "240 bytes"),
        ("must request input and/or generated tokens to request extra token detail", "logprobs"),
        ("adapter_id supplied but no adapter store was configured", "adapter_id"),
        ("temperature must be >= 0.05", "temperature=0"),
        ("missing request", "prompt"),
    ],
)
def test_refusals_say_what_to_change(details, word):
    error = failure("INVALID_ARGUMENT", details)
    assert type(error) is InvalidRequestError
    assert error.server_message == details
    assert error.status == 400
    assert word in error.hint


@pytest.mark.parametrize(
    "details",
    [
        "Unexpected <class 'ValueError'>: The decoder prompt cannot be empty",
        "Unexpected <class 'vllm.exceptions.VLLMValidationError'>: temperature must be non-negative, got -1.0.",
        "Unexpected <class 'ValueError'>: Invalid JSON schema",
    ],
)
def test_refusals_nobody_caught(details):
    error = failure("UNKNOWN", details)
    assert type(error) is InvalidRequestError
    assert not error.retryable
    assert "<class" not in str(error)
    assert details.partition(">: ")[2] in str(error)
    assert error.hint


def test_a_failure_of_the_server_nobody_caught():
    error = failure("UNKNOWN", "Unexpected <class 'vllm.v1.engine.exceptions.EngineDeadError'>: EngineCore died")
    assert type(error) is ServerError
    assert error.retryable


def test_a_prompt_too_long_that_the_engine_noticed():
    text = "Unexpected <class 'ValueError'>: The decoder prompt (length 900) is longer than the maximum model length of 512"
    assert type(failure("UNKNOWN", text)) is ContextOverflowError


def test_overload_can_be_retried_and_a_message_too_large_cannot():
    error = failure("RESOURCE_EXHAUSTED", "Model is overloaded")
    assert type(error) is RateLimitError
    assert error.retryable
    error = failure("RESOURCE_EXHAUSTED", "SERVER: Received message larger than max (5242902 vs. 4194304)")
    assert type(error) is RequestTooLargeError
    assert not error.retryable
    assert type(failure("RESOURCE_EXHAUSTED", "CUDA out of memory. Tried to allocate 2 GiB")) is ServerError


def test_another_service():
    error = failure("UNIMPLEMENTED", "Method not found!")
    assert isinstance(error, NotFoundError)
    assert "/fmaas.GenerationService/Generate" in error.message
