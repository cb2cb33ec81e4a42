"""Chat templates: whatever they are and whatever is said, a prompt comes of it, or an error, soon."""

from __future__ import annotations

import random
from typing import Any

from fuzz.replay import spoilt_bytes
from fuzz.settings import few
from hypothesis import given
from hypothesis import strategies as st

from kserve_core.chat_template import ChatTemplate
from kserve_core.errors import KServeError

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
NAMES = (
    *("messages", "message", "self", "cycler", "range", "namespace", "lipsum", "joiner", "dict", "strftime_now"),
    *("raise_exception", "''", "[]", "{}", "1", "loop", "request", "config"),
)
ATTRIBUTES = (
    *(
        "__class__",
        "__mro__",
        "__subclasses__",
        "__globals__",
        "__init__",
        "__builtins__",
        "__import__",
        "__getattribute__",
    ),
    *(
        "format",
        "format_map",
        "mro",
        "gi_frame",
        "cr_frame",
        "f_globals",
        "tb_frame",
        "func_globals",
        "__code__",
        "_context",
    ),
    *("append", "pop", "update", "clear", "join", "replace", "encode", "environment", "blocks"),
)
FILTERS = ("map", "attr", "tojson", "join", "list", "sort", "groupby", "batch", "format", "center", "indent", "xmlattr")
SECRETS = ("<class", "<module", "<frame", "<code", "root:")

roles = st.sampled_from(("system", "user", "assistant", "tool", "odd"))
texts = st.text(max_size=40)
messages = st.lists(st.fixed_dictionaries({"role": roles, "content": texts}), max_size=6)


def render(template: str, said: list[dict[str, Any]]) -> str:
    """The prompt, or the error."""
    try:
        return ChatTemplate.load(template).render(said)
    except KServeError as error:
        return str(error)


@few(150)
@given(messages)
def test_any_conversation_is_rendered_word_for_word_or_refused(said: list[dict[str, Any]]) -> None:
    prompt = render(CHATML, said)
    assert isinstance(prompt, str)


@few(250)
@given(st.integers(0, 2**32), messages)
def test_spoilt_templates_are_rendered_or_refused(seed: int, said: list[dict[str, Any]]) -> None:
    template = spoilt_bytes(CHATML.encode(), random.Random(seed)).decode("utf-8", "replace")
    assert isinstance(render(template, said), str)


@few(400)
@given(
    st.sampled_from(NAMES),
    st.lists(st.sampled_from(ATTRIBUTES), min_size=1, max_size=4),
    st.lists(st.sampled_from(FILTERS), max_size=2),
    st.booleans(),
    st.booleans(),
)
def test_templates_that_reach_for_more_get_nothing(
    name: str, attributes: list[str], filters: list[str], called: bool, indexed: bool
) -> None:
    path = "".join(f"['{part}']" if indexed else f".{part}" for part in attributes)
    end = "('x')" if called else ""
    piped = "".join(f"|{part}" + (f"('{attributes[0]}')" if part in {"map", "attr"} else "") for part in filters)
    said = [{"role": "user", "content": "hello"}]
    try:
        prompt = ChatTemplate.load("{{ (" + name + path + end + ")" + piped + " }}").render(said)
    except KServeError:
        return
    assert not [word for word in SECRETS if word in prompt], prompt
