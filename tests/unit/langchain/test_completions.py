"""Cutting a batch of prompts into requests, and putting answers into LangChain's shapes; no I/O anywhere."""

from __future__ import annotations

from functools import reduce
from operator import add

import pytest

from kserve_core import types as core
from kserve_core.calls import Call, Parallel
from kserve_core.capabilities import TextRequest
from kserve_core.errors import BadResponseError, ContextOverflowError, RateLimitError, RequestTooLargeError
from langchain_kserve import _completions


class Runtime:
    """Yields a call per request, as a flow for the first one if it has to find the model's name."""

    name, model = "fake", None

    def __init__(self, *, known: bool = True, flows: bool = False) -> None:
        self.known, self.flows = known, flows

    def generate(self, request):
        call = Call(method="POST", path="/", read=lambda response: response, headers={}, body=None)
        self.requests[id(call)] = request
        self.kept.append(call)
        if self.known and not self.flows:
            return call

        def flow():
            self.known = True
            return (yield call)

        return flow()

    requests: dict
    kept: list


class Server:
    """Answers the calls a flow yields, the way the client does, and counts them."""

    def __init__(self, runtime, *, most=None, failing=()):
        self.runtime, self.most, self.failing = runtime, most, dict(failing)
        runtime.requests, runtime.kept = {}, []
        self.sent, self.rounds = [], []

    def _answer(self, call):
        prompts = list(self.runtime.requests[id(call)].prompts)
        self.sent.append(prompts)
        for prompt in prompts:
            if prompt in self.failing:
                return self.failing[prompt]
        if self.most and len(prompts) > self.most:
            return RequestTooLargeError("too large")
        generations = [[core.Generation(text=prompt.upper())] for prompt in prompts]
        return core.TextResult(generations=generations, usage=core.Usage(len(prompts), 2, len(prompts) + 2), model="m")

    def run(self, flow):
        try:
            step = next(flow)
            while True:
                if isinstance(step, Parallel):
                    self.rounds.append((len(step.calls), step.limit))
                    step = flow.send([self._answer(call) for call in step.calls])
                    continue
                answer = self._answer(step)
                step = flow.throw(answer) if isinstance(answer, Exception) else flow.send(answer)
        except StopIteration as stop:
            return stop.value


def run(prompts, *, server=None, **options):
    server = server or Server(Runtime())
    return server, server.run(_completions.generate_all(server.runtime, TextRequest(prompts=prompts), **options))


def texts(result):
    return [generation.text for (generation,) in result.generations]


def test_all_prompts_travel_in_one_request():
    server, result = run(["a", "b", "c"])
    assert server.sent == [["a", "b", "c"]]
    assert texts(result) == ["A", "B", "C"]


def test_no_prompts_make_no_request():
    server, result = run([])
    assert server.sent == []
    assert result.generations == []


@pytest.mark.parametrize(
    "runtime", [Runtime(), Runtime(known=False), Runtime(flows=True)], ids=["call", "found", "flow"]
)
def test_batch_size_cuts_and_keeps_the_order_and_the_usage(runtime):
    prompts = list("abcdefg")
    server, result = run(prompts, server=Server(runtime), batch_size=2, concurrency=5)
    assert server.sent == [["a", "b"], ["c", "d"], ["e", "f"], ["g"]]
    assert texts(result) == list("ABCDEFG")
    assert result.usage == core.Usage(7, 8, 15)


def test_batches_after_the_first_are_in_flight_together():
    server, _ = run(list("abcdefg"), batch_size=2, concurrency=5)
    assert server.rounds == [(3, 5)]


@pytest.mark.parametrize("batch_size", [None, 4])
def test_what_is_too_large_is_halved_and_stays_in_order(batch_size):
    server, result = run(list("abcdefgh"), server=Server(Runtime(), most=2), batch_size=batch_size)
    assert texts(result) == list("ABCDEFGH")
    assert result.usage == core.Usage(8, 8, 16)
    assert [len(sent) for sent in server.sent if len(sent) > 2] == ([8, 4] if batch_size is None else [4])


def test_a_later_batch_that_is_too_large_is_halved_too():
    class Picky(Server):
        def _answer(self, call):
            if "e" in self.runtime.requests[id(call)].prompts and len(self.runtime.requests[id(call)].prompts) > 1:
                self.sent.append("refused")
                return RequestTooLargeError("too large")
            return super()._answer(call)

    server, result = run(list("abcdefgh"), server=Picky(Runtime()), batch_size=4)
    assert texts(result) == list("ABCDEFGH")
    assert server.sent.count("refused") == 2


def test_one_prompt_that_is_too_large_is_an_error():
    with pytest.raises(RequestTooLargeError):
        run(["a"], server=Server(Runtime(), failing={"a": RequestTooLargeError("too large")}))


def test_a_prompt_over_the_context_window_is_not_split():
    server = Server(Runtime(), failing={"b": ContextOverflowError("too long")})
    with pytest.raises(ContextOverflowError):
        run(["a", "b"], server=server)
    assert server.sent == [["a", "b"]]


def test_an_error_in_a_later_batch_is_raised():
    with pytest.raises(RateLimitError):
        run(list("abcdef"), server=Server(Runtime(), failing={"e": RateLimitError("slow down")}), batch_size=2)


@pytest.mark.parametrize("batch_size", [None, 1])
def test_an_answer_to_fewer_prompts_than_asked_is_an_error(batch_size):
    server = Server(Runtime())
    server._answer = lambda call: core.TextResult(generations=[])
    with pytest.raises(BadResponseError, match="0 of"):
        run(["a", "b"], server=server, batch_size=batch_size)


def test_usage_is_in_the_shape_cost_handlers_read():
    assert _completions.token_usage(core.Usage(2, 4, 6, cached_tokens=1)) == {
        "prompt_tokens": 2,
        "completion_tokens": 4,
        "total_tokens": 6,
        "prompt_tokens_details": {"cached_tokens": 1},
    }
    assert _completions.token_usage(None) == {}


STREAM = [
    core.GenerationChunk(text="he", model="m", id="cmpl-1", logprobs={"tokens": ["he"], "token_logprobs": [-0.5]}),
    core.GenerationChunk(text="llo", logprobs={"tokens": ["llo"], "token_logprobs": [-0.25]}),
    core.GenerationChunk(finish_reason="stop", stop_reason=7),
    core.GenerationChunk(usage=core.Usage(3, 2, 5)),
]


def test_chunks_add_up_to_one_generation_with_nothing_doubled():
    whole = reduce(add, map(_completions.to_chunk, STREAM))
    assert whole.text == "hello"
    assert whole.generation_info == {
        "model_name": "m",
        "id": "cmpl-1",
        "logprobs": {"tokens": ["he", "llo"], "token_logprobs": [-0.5, -0.25]},
        "finish_reason": "stop",
        "stop_reason": 7,
        "token_usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


def test_a_streamed_result_looks_like_a_whole_one():
    streamed = _completions.result_of_stream([_completions.to_chunk(piece) for piece in STREAM], None)
    whole = _completions.to_llm_result(
        core.TextResult(
            generations=[
                [
                    core.Generation(
                        text="hello",
                        finish_reason="stop",
                        stop_reason=7,
                        logprobs={"tokens": ["he", "llo"], "token_logprobs": [-0.5, -0.25]},
                    )
                ]
            ],
            usage=core.Usage(3, 2, 5),
            model="m",
            id="cmpl-1",
        ),
        None,
    )
    assert streamed == whole
