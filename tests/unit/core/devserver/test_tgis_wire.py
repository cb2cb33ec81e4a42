"""The gRPC service of TGIS: shapes as the wire facts describe them, read by a plain gRPC client."""

from __future__ import annotations

import json
import re

import grpc
import pytest

from kserve_core.chat_formats import FORMATS
from kserve_core.chat_template import ChatTemplate
from kserve_core.devserver import DevServer, Model
from kserve_core.grpc_health import CHECK, HealthCheckRequest, HealthCheckResponse
from kserve_core.protos import messages

M = messages.fmaas
REASON = M.StopReason
SERVICE = "/fmaas.GenerationService/"


@pytest.fixture(scope="module")
def server():
    with DevServer(tgis=True, models=[Model(name="tiny", max_model_len=256)]) as running:
        yield running


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.tgis_url.removeprefix("grpc://")) as made:
        yield made


@pytest.fixture
def call(channel):
    """Calls a method with a message and returns the answer, or the list of answers."""

    def invoke(name, request, **options):
        answer = {
            "Generate": M.BatchedGenerationResponse,
            "GenerateStream": M.GenerationResponse,
            "Tokenize": M.BatchedTokenizeResponse,
            "ModelInfo": M.ModelInfoResponse,
        }[name]
        kind = channel.unary_stream if name == "GenerateStream" else channel.unary_unary
        method = kind(SERVICE + name, type(request).SerializeToString, answer.FromString)
        result = method(request, timeout=10, **options)
        return list(result) if name == "GenerateStream" else result

    return invoke


@pytest.fixture
def generate(call):
    def invoke(*prompts, **params):
        requests = [M.GenerationRequest(text=prompt) for prompt in prompts]
        return list(
            call("Generate", M.BatchedGenerationRequest(requests=requests, params=M.Parameters(**params))).responses
        )

    return invoke


@pytest.fixture
def stream(call):
    def invoke(prompt, **params):
        request = M.GenerationRequest(text=prompt)
        return call("GenerateStream", M.SingleGenerationRequest(request=request, params=M.Parameters(**params)))

    return invoke


def stopping(**fields):
    return M.StoppingCriteria(**fields)


# --- answers


def test_a_batch_keeps_its_order(generate):
    first, second = generate("Say hello.", "Count to ten.")
    assert first.text == "Hello! How can I help you today?"
    assert second.text.startswith("one two three")
    assert (first.stop_reason, first.stop_sequence) == (REASON.EOS_TOKEN, "<|im_end|>")
    assert first.input_token_count > 0
    assert first.generated_token_count > 0
    assert first.seed == 0


def test_an_empty_batch(generate):
    assert generate() == []


def test_why_it_stopped(generate):
    assert generate("Say hello.", stopping=stopping(max_new_tokens=3))[0].stop_reason == REASON.MAX_TOKENS
    for own in ({}, {"stopping": stopping(max_new_tokens=1000)}):
        clamped = generate("Repeat. " * 80, **own)[0]
        assert clamped.stop_reason == REASON.TOKEN_LIMIT
        assert clamped.input_token_count + clamped.generated_token_count == 256


def test_stop_text_is_kept_unless_told_otherwise(generate):
    stops = ["can", "you"]
    kept = generate("Say hello.", stopping=stopping(stop_sequences=stops))[0]
    assert (kept.text, kept.stop_reason, kept.stop_sequence) == ("Hello! How can", REASON.STOP_SEQUENCE, "can")
    trimmed = generate("Say hello.", stopping=stopping(stop_sequences=stops, include_stop_sequence=False))[0]
    assert (trimmed.text, trimmed.stop_sequence) == ("Hello! How ", "can")


def test_the_shape_of_a_stream(stream):
    first, *rest = stream("Say hello.", stopping=stopping(max_new_tokens=3))
    assert (first.text, first.stop_reason, first.generated_token_count) == ("", REASON.NOT_FINISHED, 0)
    assert first.input_token_count > 0
    assert [message.generated_token_count for message in rest] == [1, 2, 3]
    assert [message.input_token_count for message in rest] == [0, 0, 0]
    assert [message.stop_reason for message in rest] == [0, 0, REASON.MAX_TOKENS]


@pytest.mark.parametrize("prompt", ["Say hello.", "Count to ten.", "Say it: Gruß, 世界 🎉"])
def test_the_same_whole_and_in_pieces(generate, stream, prompt):
    whole, pieces = generate(prompt)[0], stream(prompt)
    assert "".join(message.text for message in pieces) == whole.text
    assert pieces[-1].generated_token_count == whole.generated_token_count
    assert pieces[0].input_token_count == whole.input_token_count
    assert (pieces[-1].stop_reason, pieces[-1].stop_sequence) == (whole.stop_reason, whole.stop_sequence)


def test_the_prompt_in_front(generate, stream):
    response = M.ResponseOptions(input_text=True)
    assert generate("Say hello.", response=response)[0].text.startswith("Say hello.Hello!")
    assert stream("Say hello.", response=response)[0].text == "Say hello."


def test_a_seed_is_told_only_where_it_was_used(generate):
    sampling = M.SamplingParameters(seed=42)
    assert generate("Say hello.", method=M.DecodingMethod.SAMPLE, sampling=sampling)[0].seed == 42
    assert generate("Say hello.", sampling=sampling)[0].seed == 0


def test_token_details(generate, stream):
    options = M.ResponseOptions(
        input_tokens=True, generated_tokens=True, token_logprobs=True, token_ranks=True, top_n_tokens=2
    )
    whole = generate("Say hello.", response=options)[0]
    assert len(whole.tokens) == whole.generated_token_count
    assert len(whole.input_tokens) == whole.input_token_count
    first, second, *_ = whole.input_tokens
    assert (first.logprob, first.rank) == (0, 0)
    assert second.logprob < 0
    assert second.rank == 1
    assert [len(token.top_tokens) for token in whole.tokens[:2]] == [2, 2]
    pieces = stream("Say hello.", response=options)
    assert [token.text for message in pieces for token in message.tokens] == [token.text for token in whole.tokens]
    assert any(token.text.startswith("\u0120") for token in whole.tokens)


def test_a_prompt_cut_to_its_last_tokens(generate):
    assert generate("hello " * 200 + "Say hello.", truncate_input_tokens=4)[0].input_token_count == 4


# --- guided decoding

GUIDED = M.DecodingParameters


def guided(generate, prompt="What is it?", **fields):
    return generate(prompt, decoding=GUIDED(**fields))[0].text


def test_guided_answers(generate):
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    assert type(json.loads(guided(generate, json_schema=json.dumps(schema)))["ok"]) is bool
    assert isinstance(json.loads(guided(generate, format=GUIDED.ResponseFormat.JSON)), dict)
    assert re.fullmatch("[0-9]{3}", guided(generate, regex="[0-9]{3}"))
    assert guided(generate, choice=GUIDED.StringChoices(choices=["yes", "no"])) in {"yes", "no"}
    assert guided(generate, grammar='root ::= "ab" | "cd"') == "ab"


@pytest.mark.parametrize(
    "fields",
    [
        {"json_schema": "{nope"},
        {"regex": "(["},
        {"choice": GUIDED.StringChoices(choices=["one"])},
        {"format": GUIDED.ResponseFormat.TEXT},
    ],
)
def test_a_wrong_guide_is_an_exception_nobody_caught(generate, fields):
    with pytest.raises(grpc.RpcError) as caught:
        guided(generate, **fields)
    assert caught.value.code() == grpc.StatusCode.UNKNOWN
    assert re.match(r"Unexpected <class '[\w.]+'>: .+", caught.value.details())


# --- refusals


def refused(generate, *prompts, **params):
    with pytest.raises(grpc.RpcError) as caught:
        generate(*(prompts or ["a"]), **params)
    return caught.value.code().name, caught.value.details()


@pytest.mark.parametrize(
    ("params", "details"),
    [
        ({"stopping": stopping(max_new_tokens=5000)}, "max_new_tokens must be <= 1024"),
        ({"stopping": stopping(max_new_tokens=2, min_new_tokens=3)}, "min_new_tokens must be <= max_new_tokens"),
        (
            {"stopping": stopping(stop_sequences=list("abcdefg"))},
            "can specify at most 6 non-empty stop sequences, each not more than 240 UTF8 bytes",
        ),
        ({"sampling": M.SamplingParameters(top_p=1.5)}, "top_p "),
        ({"sampling": M.SamplingParameters(typical_p=1.5)}, "typical_p "),
        ({"decoding": GUIDED(repetition_penalty=3)}, "repetition_penalty "),
        ({"response": M.ResponseOptions(generated_tokens=True, top_n_tokens=11)}, "top_n_tokens "),
        (
            {"response": M.ResponseOptions(token_logprobs=True)},
            "must request input and/or generated tokens to request extra token detail",
        ),
    ],
)
def test_refusals(generate, params, details):
    code, said = refused(generate, **params)
    assert code == "INVALID_ARGUMENT"
    assert said.startswith(details)


def test_too_long(generate, stream):
    code, said = refused(generate, "hello " * 400)
    assert code == "INVALID_ARGUMENT"
    assert re.fullmatch(r"input tokens \(\d+\) plus prefix length \(0\) must be < 256", said)
    with pytest.raises(grpc.RpcError, match="plus prefix length"):
        stream("hello " * 400)
    code, said = refused(generate, "hello " * 100, stopping=stopping(min_new_tokens=200))
    assert "plus min_new_tokens (200) must be <= 256" in said


def test_exceptions_nobody_caught(generate, call):
    assert refused(generate, "")[0] == "UNKNOWN"
    assert refused(generate, sampling=M.SamplingParameters(temperature=-1))[0] == "UNKNOWN"
    with pytest.raises(grpc.RpcError) as caught:
        call("GenerateStream", M.SingleGenerationRequest())
    assert caught.value.code() == grpc.StatusCode.UNKNOWN


def test_adapters(call):
    request = M.BatchedGenerationRequest(adapter_id="x", requests=[M.GenerationRequest(text="a")])
    with pytest.raises(grpc.RpcError, match="adapter_id supplied but no adapter store was configured"):
        call("Generate", request)
    request = M.BatchedGenerationRequest(prefix_id="x", requests=[M.GenerationRequest(text="a")])
    with pytest.raises(grpc.RpcError, match="prefix_id supplied but no adapter store was configured"):
        call("Generate", request)


def test_methods_and_bytes_nobody_knows(channel):
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(SERVICE + "Nope")(b"", timeout=10)
    assert (caught.value.code().name, caught.value.details()) == ("UNIMPLEMENTED", "Method not found!")
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(SERVICE + "Generate")(b"\xff\xff\xff", timeout=10)
    assert caught.value.code() == grpc.StatusCode.UNKNOWN


# --- tokens, the model, health


def test_tokens(call):
    def tokenize(*texts, **options):
        requests = [M.TokenizeRequest(text=text) for text in texts]
        return list(call("Tokenize", M.BatchedTokenizeRequest(requests=requests, **options)).responses)

    plain, empty = tokenize("The weather", "")
    assert plain.token_count > 0
    assert (list(plain.tokens), list(plain.offsets), empty.token_count) == ([], [], 0)
    full = tokenize("The wéather", return_tokens=True, return_offsets=True)[0]
    assert len(full.tokens) == len(full.offsets) == full.token_count
    assert (full.offsets[0].start, full.offsets[-1].end) == (0, len("The wéather"))
    shared = [(one.start, one.end) for one in full.offsets if one.start == 5]
    assert shared == [(5, 6), (5, 6)]
    tail = tokenize("The weather", return_tokens=True, truncate_input_tokens=2)[0]
    whole = tokenize("The weather", return_tokens=True)[0]
    assert list(tail.tokens) == list(whole.tokens)[-2:]


def test_the_model(call):
    info = call("ModelInfo", M.ModelInfoRequest(model_id="anything"))
    assert (info.max_sequence_length, info.max_new_tokens) == (256, 1024)
    assert info.model_kind == M.ModelInfoResponse.ModelKind.DECODER_ONLY


def test_health(channel):
    check = channel.unary_unary(CHECK, HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString)
    for name in ("", "fmaas.GenerationService"):
        assert check(HealthCheckRequest(name), timeout=10).status == HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        check(HealthCheckRequest("nope"), timeout=10)
    assert (caught.value.code().name, caught.value.details()) == ("NOT_FOUND", "")


# --- conversations


@pytest.mark.parametrize("name", FORMATS)
def test_a_conversation_written_by_any_template_is_understood(generate, name):
    template = ChatTemplate.load(name)
    asked = [{"role": "user", "content": "Say hello."}]
    assert generate(template.render(asked))[0].text == "Hello! How can I help you today?"
    told = [
        {"role": "system", "content": "The gateway uses port 8443."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Which port does the gateway use?"},
    ]
    assert "8443" in generate(template.render(told))[0].text
