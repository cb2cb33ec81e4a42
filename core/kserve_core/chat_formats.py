"""Chat formats of well-known model families, written in plain Python from their published descriptions.

None writes a beginning-of-text token: every text runtime adds its own, and two of them make answers worse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """How a model family writes a conversation as one text.

    Attributes:
        before: What opens a turn, by role; a role that is missing cannot be expressed.
        after: What closes a turn, by role.
        answer: What opens the model's own turn.
        stop: What the model writes when its turn is over.
        strip: Whether the text of a turn loses surrounding white space.
        system_in_user: How a system message is written in front of the user text that follows it, in families that
            have no system turn; None in those that have.
        alternate: Whether user and assistant turns must take turns, the user first.
        again: What stands before every user turn but the first.
    """

    before: Mapping[str, str]
    after: Mapping[str, str]
    answer: str
    stop: tuple[str, ...]
    strip: bool = True
    system_in_user: str | None = None
    alternate: bool = False
    again: str = ""


def _by_name(start: str, end: str, *, stop: str, strip: bool = False) -> ChatFormat:
    """A format whose turns differ in nothing but the role's name."""
    roles = ("system", "user", "assistant")
    before = {role: start.format(role=role) for role in roles}
    return ChatFormat(
        before=before, after=dict.fromkeys(roles, end), answer=before["assistant"], stop=(stop,), strip=strip
    )


FORMATS: Mapping[str, ChatFormat] = {
    "chatml": _by_name("<|im_start|>{role}\n", "<|im_end|>\n", stop="<|im_end|>"),
    "llama3": _by_name("<|start_header_id|>{role}<|end_header_id|>\n\n", "<|eot_id|>", stop="<|eot_id|>", strip=True),
    "llama2": ChatFormat(
        before={"user": "[INST] ", "assistant": " "},
        after={"user": " [/INST]", "assistant": " </s>"},
        answer="",
        stop=("</s>",),
        system_in_user="<<SYS>>\n{system}\n<</SYS>>\n\n",
        alternate=True,
        again="<s>",
    ),
    "mistral": ChatFormat(
        before={"user": "[INST] ", "assistant": " "},
        after={"user": " [/INST]", "assistant": "</s>"},
        answer="",
        stop=("</s>",),
        system_in_user="{system}\n\n",
        alternate=True,
    ),
    "mistralv3": ChatFormat(
        before={"user": "[INST] ", "assistant": " "},
        after={"user": "[/INST]", "assistant": "</s>"},
        answer="",
        stop=("</s>",),
        system_in_user="{system}\n\n",
        alternate=True,
    ),
    "mistralv7": ChatFormat(
        before={"system": "[SYSTEM_PROMPT]", "user": "[INST]", "assistant": ""},
        after={"system": "[/SYSTEM_PROMPT]", "user": "[/INST]", "assistant": "</s>"},
        answer="",
        stop=("</s>",),
        alternate=True,
    ),
    "granite": _by_name("<|start_of_role|>{role}<|end_of_role|>", "<|end_of_text|>\n", stop="<|end_of_text|>"),
    "phi3": _by_name("<|{role}|>\n", "<|end|>\n", stop="<|end|>"),
    "phi4": _by_name("<|im_start|>{role}<|im_sep|>", "<|im_end|>", stop="<|im_end|>"),
    "gemma": ChatFormat(
        before={"user": "<start_of_turn>user\n", "assistant": "<start_of_turn>model\n"},
        after={"user": "<end_of_turn>\n", "assistant": "<end_of_turn>\n"},
        answer="<start_of_turn>model\n",
        stop=("<end_of_turn>",),
        system_in_user="{system}\n\n",
        alternate=True,
    ),
    "zephyr": _by_name("<|{role}|>\n", "</s>\n", stop="</s>"),
    "vicuna": ChatFormat(
        before={"system": "", "user": "USER: ", "assistant": "ASSISTANT: "},
        after={"system": "\n\n", "user": "\n", "assistant": "</s>\n"},
        answer="ASSISTANT:",
        stop=("</s>",),
    ),
    "plain": ChatFormat(
        before={"system": "", "user": "User: ", "assistant": "Assistant: "},
        after={"system": "\n\n", "user": "\n", "assistant": "\n"},
        answer="Assistant:",
        stop=("\nUser:",),
    ),
}
"""The built-in formats by the name to give as `chat_template`.

`mistral` is the form of Mistral 7B Instruct up to v0.2 and Mixtral 8x7B, `mistralv3` that of v0.3 and Mixtral 8x22B,
`mistralv7` that of the 2501 generation. `plain` is for models that were not trained on conversations.
"""

ALIASES: Mapping[str, str] = {
    **dict.fromkeys(("qwen", "qwen2", "qwen25", "qwen3", "hermes", "smollm"), "chatml"),
    **dict.fromkeys(("llama31", "llama32", "llama33"), "llama3"),
    **dict.fromkeys(("mixtral", "mistralv1"), "mistral"),
    **dict.fromkeys(("granite3", "granite31", "granite32", "granite33"), "granite"),
    **dict.fromkeys(("phi", "phi35"), "phi3"),
    **dict.fromkeys(("gemma2", "gemma3"), "gemma"),
}
"""Other names of the same formats. Dots, dashes, underscores and spaces in a name do not count."""


def format_name(name: str) -> str | None:
    """The built-in format a name means, or None."""
    key = "".join(char for char in name.lower() if char not in ".-_ ")
    key = ALIASES.get(key, key)
    return key if key in FORMATS else None
