"""Conversations as one text, for runtimes that only complete text.

A template is one of the built-in formats by name, a Jinja text, or a file: a Jinja file or a model's
`tokenizer_config.json`. It is always given by the user; none is ever taken from a server.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from kserve_core.chat_formats import FORMATS, format_name
from kserve_core.errors import ConfigurationError, UnsupportedParameterError

ChatTemplateSource: TypeAlias = "str | os.PathLike[str] | ChatTemplate"
MAX_SOURCE = 100_000
"""Longest template source taken, in characters."""
MAX_CONFIG = 16_000_000
"""Longest `tokenizer_config.json` taken, in bytes; those of models with many added tokens are large."""
MAX_PROMPT = 8_000_000
"""Longest prompt rendered, in characters."""

_JINJA_MARKS = ("{{", "{%", "{#")
_BOS = ("<s>", "<|begin_of_text|>", "<bos>", "<|startoftext|>", "<BOS_TOKEN>", "<|begin▁of▁sentence|>")
"""Beginning-of-text tokens that templates write out instead of using the variable."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """Turns messages into a prompt. Make one with `ChatTemplate.load`; it pickles and compares by value.

    Attributes:
        name: The built-in format's name, or `jinja`.
        source: The Jinja text; empty for a built-in format.
        stop: What ends the model's turn; belongs into the request's stop sequences.
        bos: The beginning-of-text token, as the template's `bos_token`.
        eos: The end-of-text token, as the template's `eos_token`.
        keep_bos: Whether a prompt keeps the beginning-of-text token at its start. Normally it is cut off, because
            runtimes add their own and two make answers worse.
    """

    name: str
    source: str = field(default="", repr=False)
    stop: tuple[str, ...] = ()
    bos: str = ""
    eos: str = ""
    keep_bos: bool = False

    @classmethod
    def load(cls, value: ChatTemplateSource) -> ChatTemplate:
        """Reads a template from what a user may write.

        Args:
            value: The name of a built-in format, Jinja text, the path of a Jinja file or of a
                `tokenizer_config.json`, or a template.

        Raises:
            ConfigurationError: If there is no such format or file, or the template does not parse.
        """
        if isinstance(value, ChatTemplate):
            return value
        if isinstance(value, os.PathLike):
            return cls._from_file(Path(value))
        name = format_name(value)
        if name is not None:
            return cls(name=name, stop=FORMATS[name].stop)
        if any(mark in value for mark in _JINJA_MARKS):
            return cls._from_jinja(value)
        path = _existing(value)
        if path is not None:
            return cls._from_file(path)
        msg = f"There is no chat template {value[:80]!r}."
        hint = f"Built-in formats are {', '.join(sorted(FORMATS))}; otherwise give Jinja text or the path of a file."
        raise ConfigurationError(msg, hint=hint)

    @classmethod
    def _from_file(cls, path: Path) -> ChatTemplate:
        try:
            with path.open("rb") as file:
                data = file.read(MAX_CONFIG + 1)
        except OSError as error:
            msg = f"The chat template file {str(path)!r} cannot be read: {error.strerror or type(error).__name__}."
            raise ConfigurationError(msg) from None
        if path.suffix != ".json":
            return cls._from_jinja(data.decode("utf-8", "replace"))
        if len(data) > MAX_CONFIG:
            msg = f"{str(path)!r} has more than {MAX_CONFIG} bytes."
            raise ConfigurationError(msg)
        try:
            config = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            msg = f"{str(path)!r} is not JSON: {error}."
            raise ConfigurationError(msg) from None
        source = _default_template(config.get("chat_template") if isinstance(config, dict) else None)
        if source is None:
            msg = f"{str(path)!r} has no chat_template."
            hint = "Newer models keep it in a file chat_template.jinja beside it; give that path."
            raise ConfigurationError(msg, hint=hint)
        return cls._from_jinja(
            source,
            bos=_token(config, "bos_token"),
            eos=_token(config, "eos_token"),
            keep_bos=config.get("add_bos_token") is False,
        )

    @classmethod
    def _from_jinja(cls, source: str, *, bos: str = "", eos: str = "", keep_bos: bool = False) -> ChatTemplate:
        if len(source) > MAX_SOURCE:
            msg = f"The chat template has {len(source)} characters; {MAX_SOURCE} are taken at most."
            raise ConfigurationError(msg)
        from kserve_core.jinja_sandbox import compile_template

        compile_template(source)
        bare = cls(name="jinja", source=source, bos=bos, eos=eos, keep_bos=keep_bos)
        end = _end_of_turn(bare) or eos
        return cls(name="jinja", source=source, stop=(end,) if end else (), bos=bos, eos=eos, keep_bos=keep_bos)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """Writes the conversation as the prompt for the model's next turn.

        Args:
            messages: Messages in OpenAI's chat shape, with text content only.
            tools: Tools in OpenAI's shape; only a Jinja template can express them.
            add_generation_prompt: Whether the model's own turn is opened at the end.
            continue_final_message: The last message is the model's and is to be continued, not answered.
            variables: More variables for a Jinja template.

        Raises:
            UnsupportedParameterError: If the template cannot express a role, tools or a content part.
            ConfigurationError: If there is no message, or a Jinja template refuses or fails.
        """
        if not messages:
            msg = "There is no message to answer."
            raise ConfigurationError(msg)
        turns = [_text_only(message) for message in messages]
        if continue_final_message and turns[-1]["role"] != "assistant":
            msg = "Only a message of the assistant can be continued."
            raise ConfigurationError(msg)
        opened = add_generation_prompt and not continue_final_message
        if self.name == "jinja":
            more = {**(variables or {}), "add_generation_prompt": opened}
            prompt = self._render_jinja(turns, tools, more, continued=continue_final_message)
        else:
            if tools:
                raise _cannot(self.name, "tools")
            if variables:
                msg = f"The built-in chat template {self.name!r} has no variables ({', '.join(map(str, variables))})."
                raise UnsupportedParameterError(msg, hint="Give the model's own template, as Jinja text or a file.")
            prompt = _render_format(self.name, turns, opened=opened, continued=continue_final_message)
        if len(prompt) > MAX_PROMPT:
            msg = f"The prompt has {len(prompt)} characters; {MAX_PROMPT} are sent at most."
            raise ConfigurationError(msg)
        return prompt

    def _render_jinja(
        self,
        turns: list[dict[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        variables: Mapping[str, Any],
        *,
        continued: bool,
    ) -> str:
        from kserve_core.jinja_sandbox import render_template

        prompt = render_template(
            self.source,
            {
                "documents": None,
                **variables,
                "messages": turns,
                "tools": [dict(tool) for tool in tools] or None,
                "continue_final_message": continued,
                "bos_token": self.bos,
                "eos_token": self.eos,
            },
            max_length=MAX_PROMPT,
        )
        if not self.keep_bos:
            prompt = _without_bos(prompt, self.bos)
        return _cut_after(prompt, turns[-1]) if continued else prompt


def _render_format(name: str, turns: list[dict[str, Any]], *, opened: bool, continued: bool) -> str:
    rules = FORMATS[name]
    for turn in turns:
        if turn.get("tool_calls"):
            raise _cannot(name, "tool calls")
        if turn["role"] not in rules.before and not (turn["role"] == "system" and rules.system_in_user is not None):
            raise _cannot(name, f"the role {turn['role']!r}")
    if rules.system_in_user is not None:
        turns = _fold_system(name, rules.system_in_user, turns)
    if rules.alternate:
        turns = _alternating(name, turns)
    parts: list[str] = []
    for number, turn in enumerate(turns, 1):
        role, text = turn["role"], turn["content"]
        last = continued and number == len(turns)
        if rules.strip:
            text = text.lstrip() if last else text.strip()
        if role == "user" and parts:
            parts.append(rules.again)
        parts.append(f"{rules.before[role]}{text}{'' if last else rules.after[role]}")
    if opened:
        parts.append(rules.answer)
    return "".join(parts)


def _fold_system(name: str, form: str, turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Moves system messages into the user message that follows them, or the one before where none follows."""
    held: list[str] = []
    folded: list[dict[str, Any]] = []
    for turn in turns:
        if turn["role"] == "system":
            held.append(turn["content"].strip())
        elif turn["role"] == "user" and held:
            system = form.replace("{system}", "\n\n".join(held))
            folded.append({**turn, "content": system + turn["content"].strip()})
            held = []
        else:
            folded.append(turn)
    if held and folded and folded[-1]["role"] == "user":
        last = folded.pop()
        folded.append({**last, "content": "\n\n".join([last["content"].strip(), *held])})
    elif held:
        msg = f"The chat template {name!r} writes a system message into a user message, and there is none beside it."
        raise UnsupportedParameterError(msg, hint="Put the system message before a user message.")
    return folded


def _alternating(name: str, turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Joins neighboring messages of one role; the conversation must begin with the user's."""
    joined: list[dict[str, Any]] = []
    for turn in turns:
        if joined and joined[-1]["role"] == turn["role"]:
            last = joined.pop()
            joined.append({**last, "content": f"{last['content']}\n\n{turn['content']}"})
        else:
            joined.append(turn)
    first = next((turn["role"] for turn in joined if turn["role"] != "system"), None)
    if first == "assistant":
        msg = f"With the chat template {name!r} a conversation begins with a user message, not the assistant's."
        raise UnsupportedParameterError(msg, hint="Put a user message in front, or leave the greeting out.")
    return joined


def _text_only(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message whose content is one text; a part that is not text is an error."""
    content = message.get("content")
    if content is None:
        text = ""
    elif isinstance(content, str):
        text = str(content)
    else:
        text = "\n".join(_part_text(part) for part in content)
    role = str(message.get("role", "user"))
    return {**message, "role": "system" if role == "developer" else role, "content": text}


def _part_text(part: Any) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type", "unknown") if isinstance(part, Mapping) else type(part).__name__
    if kind == "text":
        return str(part.get("text", ""))
    msg = f"A chat template writes text, and the message has {kind!r} content."
    raise UnsupportedParameterError(msg, hint="Send text only, or use a runtime that takes such content.")


def _cannot(name: str, what: str) -> UnsupportedParameterError:
    msg = f"The chat template {name!r} cannot express {what}."
    return UnsupportedParameterError(msg, hint="Leave it out, or give a Jinja template that can.")


def _without_bos(prompt: str, bos: str) -> str:
    for token in filter(None, (bos, *_BOS)):
        while prompt.startswith(token):
            prompt = prompt[len(token) :]
    return prompt


def _cut_after(prompt: str, turn: Mapping[str, Any]) -> str:
    """Drops what the template wrote behind the text that is to be continued."""
    content = str(turn["content"])
    for text in (content, content.rstrip(), content.strip()):
        at = prompt.rfind(text)
        if at >= 0 and text:
            return prompt[: at + len(text)]
    msg = "The chat template does not show the last message, so it cannot be continued."
    raise ConfigurationError(msg)


def _end_of_turn(template: ChatTemplate) -> str:
    """What a Jinja template writes behind the model's text: found by having it write a little conversation."""
    question, answer = "0question0", "0answer0"
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    try:
        prompt = template.render(messages, add_generation_prompt=False)
    except ConfigurationError:
        return ""  # it takes no such conversation; the server's own end-of-text token still ends the answer
    _, found, end = prompt.rpartition(answer)
    end = end.strip()
    return end if found and len(end) <= 64 and not any(char.isspace() for char in end) else ""


def _existing(value: str) -> Path | None:
    if "\n" in value or len(value) > 4096:
        return None
    try:
        path = Path(value).expanduser()
        return path if path.is_file() else None
    except (OSError, ValueError, RuntimeError):
        return None


def _default_template(value: Any) -> str | None:
    """The template of a tokenizer configuration, which may hold several by name."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        named = {row.get("name"): row.get("template") for row in value if isinstance(row, dict)}
        first = named.get("default") or next(iter(named.values()), None)
        return first if isinstance(first, str) else None
    return None


def _token(config: Mapping[str, Any], key: str) -> str:
    value = config.get(key)
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else ""
