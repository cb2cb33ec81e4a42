"""What a real TGIS endpoint says about itself, and how it counts tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
from runtimes.prompts import CHATML, HELLO, ask, chatml

from kserve_core.capabilities import ChatRequest, OutputConstraint, TextRequest
from kserve_core.errors import InvalidRequestError
from kserve_core.templated import TemplatedChat


def test_the_model(plain):
    info = plain.run(plain.runtime.model_info())
    assert (info.id, info.max_model_len, info.kind) == ("tiny", 4096, "generate")
    assert info.extra == {"model_kind": "decoder_only", "max_new_tokens": 3900}
    assert plain.run(plain.runtime.models()) == [info]


def test_health(plain, secure):
    assert plain.run(plain.runtime.health()) is True
    assert secure.run(secure.runtime.health()) is True


@pytest.mark.parametrize("text", ["Say hello.", "你好啊集团 🎈", "  spaces\n\tand tabs ", "<|im_end|> in the middle"])
def test_tokens_are_those_that_a_request_counts(plain, text):
    tokens = plain.run(plain.runtime.tokenize(text))
    assert tokens.count == len(tokens.tokens)
    request = TextRequest(prompts=[text], params={"temperature": 0, "max_tokens": 1, "input_tokens": True})
    result = plain.run(plain.runtime.generate(request))
    assert result.usage.prompt_tokens == tokens.count


def test_no_text_has_no_tokens(plain):
    assert plain.run(plain.runtime.tokenize("")).count == 0


def test_a_conversation_is_counted_as_it_is_sent(plain):
    chat = TemplatedChat(plain.runtime, CHATML)
    request = ChatRequest(messages=[{"role": "user", "content": "Say hello."}], params={"temperature": 0})
    count = plain.run(chat.tokenize_messages(request)).count
    answer = plain.run(chat.chat(request))
    assert answer.usage.prompt_tokens == count
    assert count == plain.run(plain.runtime.tokenize(chatml("Say hello."))).count
    assert answer.choices[0].content == HELLO


def test_a_failed_request_is_in_the_servers_log_by_its_id(plain, servers):
    """The request id is sent as the correlation id."""
    form = OutputConstraint("regex", "(unclosed")
    with pytest.raises(InvalidRequestError):
        plain.run(plain.runtime.generate(ask("Hi", constraint=form, headers={"x-request-id": "find-me-7"})))
    assert "find-me-7" in Path(servers["plain"]["log"]).read_text(encoding="utf-8")
