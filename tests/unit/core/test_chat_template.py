"""Chat templates: where they come from, and what they make of a conversation."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import pytest

from kserve_core.chat_formats import FORMATS
from kserve_core.chat_template import MAX_PROMPT, MAX_SOURCE, ChatTemplate
from kserve_core.errors import ConfigurationError, UnsupportedParameterError

CHATML = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HI = [{"role": "user", "content": "Hi"}]
FOLDING = [name for name, rules in FORMATS.items() if rules.system_in_user]
ALTERNATING = [name for name, rules in FORMATS.items() if rules.alternate]


def user(text):
    return {"role": "user", "content": text}


def system(text):
    return {"role": "system", "content": text}


def assistant(text, **fields):
    return {"role": "assistant", "content": text, **fields}


# --- where they come from


def test_importing_it_loads_no_jinja():
    code = "import sys, kserve_core.chat_template, kserve_core.templated; print('jinja2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_jinja_text_and_a_file_of_it(tmp_path):
    path = tmp_path / "chat_template.jinja"
    path.write_text(CHATML)
    template = ChatTemplate.load(CHATML)
    assert template.render(HI) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert ChatTemplate.load(path) == ChatTemplate.load(str(path)) == template
    assert ChatTemplate.load(template) is template
    assert pickle.loads(pickle.dumps(template)) == template


def test_a_tokenizer_configuration(tmp_path):
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({"chat_template": CHATML, "bos_token": {"content": "<BOS>"}, "eos_token": "<|im_end|>"}))
    template = ChatTemplate.load(path)
    assert (template.bos, template.eos, template.stop) == ("<BOS>", "<|im_end|>", ("<|im_end|>",))
    assert template.render(HI).startswith("<|im_start|>user")


def test_a_tokenizer_configuration_with_several_templates(tmp_path):
    path = tmp_path / "tokenizer_config.json"
    named = [{"name": "tool_use", "template": "{{ 'tools' }}"}, {"name": "default", "template": CHATML}]
    path.write_text(json.dumps({"chat_template": named}))
    assert ChatTemplate.load(path).source == CHATML


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "is not JSON"), ("{}", "has no chat_template"), ("[]", "has no chat_template")],
)
def test_a_configuration_without_a_template(tmp_path, text, words):
    path = tmp_path / "tokenizer_config.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        ChatTemplate.load(path)


def test_what_is_not_a_template(tmp_path):
    with pytest.raises(ConfigurationError, match="no chat template 'gpt-17'") as caught:
        ChatTemplate.load("gpt-17")
    assert "chatml" in caught.value.hint
    for odd in ("a\0b", "x" * 5000, "~nobody-here/x", ""):
        with pytest.raises(ConfigurationError):
            ChatTemplate.load(odd)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        ChatTemplate.load(tmp_path / "missing.jinja")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        ChatTemplate.load(tmp_path)
    with pytest.raises(ConfigurationError, match="does not parse in line 2"):
        ChatTemplate.load("a\n{% for x in %}")
    with pytest.raises(ConfigurationError, match="characters"):
        ChatTemplate.load("{{ 1 }}" + " " * MAX_SOURCE)


# --- the end of a turn


@pytest.mark.parametrize(
    ("source", "stop"),
    [
        (CHATML, ("<|im_end|>",)),
        ("{% for m in messages %}[{{ m.role }}] {{ m.content }} </s>{% endfor %}", ("</s>",)),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", ()),
        ("{% for m in messages %}{{ m.content }} that was it. {% endfor %}", ()),
        ("{{ raise_exception('no') }}", ()),
        ("{{ 'always the same' }}", ()),
    ],
)
def test_what_a_jinja_template_writes_behind_an_answer_is_its_stop_text(source, stop):
    assert ChatTemplate.load(source).stop == stop


def test_the_end_of_text_token_where_the_template_shows_nothing_better(tmp_path):
    path = tmp_path / "tokenizer_config.json"
    source = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    path.write_text(json.dumps({"chat_template": source, "eos_token": "</s>"}))
    assert ChatTemplate.load(path).stop == ("</s>",)


# --- the beginning of text


@pytest.mark.parametrize("bos", ["<s>", "<bos>", "<|begin_of_text|>"])
def test_a_beginning_of_text_written_out_is_cut_off(bos):
    assert ChatTemplate.load(bos + "{{ messages[0].content }}").render(HI) == "Hi"


def test_it_stays_where_the_model_says_that_none_is_added(tmp_path):
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({"chat_template": CHATML, "bos_token": "<s>", "add_bos_token": False}))
    assert ChatTemplate.load(path).render(HI).startswith("<s><|im_start|>")


def test_a_jinja_template_without_a_configuration_has_empty_tokens():
    template = ChatTemplate.load("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}")
    assert template.render(HI) == "Hi"


# --- roles


@pytest.mark.parametrize("name", FOLDING)
def test_system_messages_go_into_the_user_message_after_them(name):
    prompt = ChatTemplate.load(name).render([system("A {b}"), system("C"), user("Hi")])
    assert prompt.index("A {b}\n\nC") < prompt.index("Hi")
    late = ChatTemplate.load(name).render([user("Hi"), assistant("Yo"), system("Now shout."), user("Bye")])
    assert late.index("Yo") < late.index("Now shout.") < late.index("Bye")
    last = ChatTemplate.load(name).render([user("Hi"), system("Be brief.")])
    assert "Hi\n\nBe brief." in last


@pytest.mark.parametrize("name", FOLDING)
def test_a_system_message_alone_cannot_be_expressed(name):
    with pytest.raises(UnsupportedParameterError, match="none beside it"):
        ChatTemplate.load(name).render([system("A")])


@pytest.mark.parametrize("name", ALTERNATING)
def test_neighbors_of_one_role_are_joined(name):
    template = ChatTemplate.load(name)
    joined = template.render([user("a\n\nb"), assistant("c\n\nd"), user("e")])
    assert template.render([user("a"), user("b"), assistant("c"), assistant("d"), user("e")]) == joined


@pytest.mark.parametrize("name", ALTERNATING)
def test_the_assistant_cannot_begin(name):
    with pytest.raises(UnsupportedParameterError, match="begins with a user message"):
        ChatTemplate.load(name).render([system("A"), assistant("Hello!"), user("Hi")])


def test_developer_messages_are_system_messages():
    chatml = ChatTemplate.load("chatml")
    assert chatml.render([{"role": "developer", "content": "A"}, user("Hi")]) == chatml.render(
        [system("A"), user("Hi")]
    )


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_format_cannot_express(name):
    template = ChatTemplate.load(name)
    with pytest.raises(UnsupportedParameterError, match="the role 'tool'"):
        template.render([user("a"), assistant("b"), {"role": "tool", "content": "c", "tool_call_id": "1"}])
    with pytest.raises(UnsupportedParameterError, match="tool calls"):
        template.render([user("a"), assistant(None, tool_calls=[{"id": "1"}])])
    with pytest.raises(UnsupportedParameterError, match="cannot express tools"):
        template.render(HI, tools=[{"type": "function"}])
    with pytest.raises(UnsupportedParameterError, match="has no variables"):
        template.render(HI, variables={"enable_thinking": False})


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file"])
def test_content_other_than_text(kind):
    for template in (ChatTemplate.load("chatml"), ChatTemplate.load(CHATML)):
        with pytest.raises(UnsupportedParameterError, match=kind):
            template.render([user([{"type": "text", "text": "a"}, {"type": kind}])])


def test_content_in_parts_and_none_at_all():
    chatml = ChatTemplate.load("chatml")
    assert "user\na\nb<|im_end|>" in chatml.render([user([{"type": "text", "text": "a"}, "b"])])
    assert "assistant\n<|im_end|>" in chatml.render([user("a"), assistant(None), user("b")])


def test_a_jinja_template_gets_tools_and_variables():
    template = ChatTemplate.load("{{ tools|length if tools else 0 }}{{ enable_thinking }}{{ messages[0].content }}")
    assert template.render(HI, tools=[{}, {}], variables={"enable_thinking": False}) == "2FalseHi"
    assert template.render(HI) == "0Hi"
    assert template.render(HI, variables={"messages": [], "enable_thinking": 1}) == "01Hi"


def test_a_jinja_template_may_refuse():
    template = ChatTemplate.load("{% if messages|length > 1 %}{{ raise_exception('one only') }}{% endif %}x")
    with pytest.raises(ConfigurationError, match="refuses this conversation: one only"):
        template.render([*HI, *HI])


def test_no_messages():
    with pytest.raises(ConfigurationError, match="no message to answer"):
        ChatTemplate.load("chatml").render([])


# --- the model's turn


@pytest.mark.parametrize("template", ["chatml", "plain", CHATML])
def test_without_opening_the_answer(template):
    loaded = ChatTemplate.load(template)
    assert loaded.render(HI).startswith(loaded.render(HI, add_generation_prompt=False))
    assert "ssistant" not in loaded.render(HI, add_generation_prompt=False)


@pytest.mark.parametrize("template", [*FORMATS, CHATML])
def test_the_last_message_can_be_continued(template):
    prompt = ChatTemplate.load(template).render([*HI, assistant("Once upon a")], continue_final_message=True)
    assert prompt.endswith("Once upon a")


def test_only_the_assistants_can():
    with pytest.raises(ConfigurationError, match="assistant can be continued"):
        ChatTemplate.load("chatml").render(HI, continue_final_message=True)
    hidden = ChatTemplate.load("{{ messages[0].content }}")
    with pytest.raises(ConfigurationError, match="does not show the last message"):
        hidden.render([*HI, assistant("Once")], continue_final_message=True)


# --- bounds


def test_a_prompt_has_a_bound():
    for source in ("chatml", CHATML):
        with pytest.raises(ConfigurationError):
            ChatTemplate.load(source).render([user("x" * (MAX_PROMPT + 1))])


@pytest.mark.parametrize("source", ["chatml", CHATML])
def test_a_long_conversation_is_no_problem(source):
    turns = [user("word " * 2000), assistant("word " * 100)] * 300
    assert len(ChatTemplate.load(source).render([*turns, user("end")])) > 3_000_000


def test_a_template_does_not_change_the_messages():
    messages = [user("a"), assistant("b"), user("c")]
    before = json.dumps(messages)
    for name in [*FORMATS, CHATML]:
        ChatTemplate.load(name).render(messages)
    assert json.dumps(messages) == before
