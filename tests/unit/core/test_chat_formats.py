"""The built-in chat formats, against what the model families publish, without their beginning-of-text token."""

from __future__ import annotations

import pytest

from kserve_core.chat_formats import ALIASES, FORMATS, format_name
from kserve_core.chat_template import ChatTemplate

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yo"},
    {"role": "user", "content": "Bye"},
]

PUBLISHED = {
    "chatml": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nYo<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
    ),
    "llama3": (
        "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nYo<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "llama2": "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Yo </s><s>[INST] Bye [/INST]",
    "mistral": "[INST] Be brief.\n\nHi [/INST] Yo</s>[INST] Bye [/INST]",
    "mistralv3": "[INST] Be brief.\n\nHi[/INST] Yo</s>[INST] Bye[/INST]",
    "mistralv7": "[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]Hi[/INST]Yo</s>[INST]Bye[/INST]",
    "granite": (
        "<|start_of_role|>system<|end_of_role|>Be brief.<|end_of_text|>\n"
        "<|start_of_role|>user<|end_of_role|>Hi<|end_of_text|>\n"
        "<|start_of_role|>assistant<|end_of_role|>Yo<|end_of_text|>\n"
        "<|start_of_role|>user<|end_of_role|>Bye<|end_of_text|>\n"
        "<|start_of_role|>assistant<|end_of_role|>"
    ),
    "phi3": (
        "<|system|>\nBe brief.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nYo<|end|>\n"
        "<|user|>\nBye<|end|>\n<|assistant|>\n"
    ),
    "phi4": (
        "<|im_start|>system<|im_sep|>Be brief.<|im_end|><|im_start|>user<|im_sep|>Hi<|im_end|>"
        "<|im_start|>assistant<|im_sep|>Yo<|im_end|><|im_start|>user<|im_sep|>Bye<|im_end|>"
        "<|im_start|>assistant<|im_sep|>"
    ),
    "gemma": (
        "<start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nYo<end_of_turn>\n"
        "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n"
    ),
    "zephyr": (
        "<|system|>\nBe brief.</s>\n<|user|>\nHi</s>\n<|assistant|>\nYo</s>\n<|user|>\nBye</s>\n<|assistant|>\n"
    ),
    "vicuna": "Be brief.\n\nUSER: Hi\nASSISTANT: Yo</s>\nUSER: Bye\nASSISTANT:",
    "plain": "Be brief.\n\nUser: Hi\nAssistant: Yo\nUser: Bye\nAssistant:",
}
STOP = {
    "chatml": "<|im_end|>",
    "llama3": "<|eot_id|>",
    "granite": "<|end_of_text|>",
    "phi3": "<|end|>",
    "phi4": "<|im_end|>",
    "gemma": "<end_of_turn>",
    "plain": "\nUser:",
}


def test_every_format_is_checked_here():
    assert set(PUBLISHED) == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_as_published(name):
    template = ChatTemplate.load(name)
    assert template.render(TALK) == PUBLISHED[name]
    assert template.stop == (STOP.get(name, "</s>"),)


@pytest.mark.parametrize("name", FORMATS)
def test_no_beginning_of_text(name):
    prompt = ChatTemplate.load(name).render(TALK)
    assert not prompt.startswith(("<s>", "<bos>", "<|begin_of_text|>"))


def test_names_are_taken_however_they_are_written():
    for name in ("Llama-3.1", "llama_3", "LLAMA3", "llama 3.3"):
        assert format_name(name) == "llama3"
    assert ChatTemplate.load("ChatML") == ChatTemplate.load("qwen2.5")
    assert set(ALIASES.values()) <= set(FORMATS)
    assert format_name("gpt") is None
