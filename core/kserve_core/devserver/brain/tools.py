"""Decides which tool to call and with which arguments."""

from __future__ import annotations

import re

from kserve_core.devserver.brain.conversation import Call, Conversation, Message, Tool
from kserve_core.devserver.brain.extract import names, sentences
from kserve_core.devserver.brain.features import keywords, words
from kserve_core.devserver.brain.passages import best_fact
from kserve_core.devserver.brain.schema import Filler
from kserve_core.devserver.brain.selection import hints


def arguments(tool: Tool, prompt: str) -> dict[str, object]:
    """Arguments for a tool, valid for its schema, taken from the prompt."""
    made = Filler(prompt, root=tool.parameters, hints=hints(prompt)).fill({"type": "object", **tool.parameters})
    return made if isinstance(made, dict) else {}


def forced_call(conversation: Conversation, tool: Tool) -> Call:
    """A call of one certain tool."""
    return Call(tool.name, arguments(tool, conversation.user))


def best_tool(tools: tuple[Tool, ...], prompt: str) -> Tool | None:
    """The tool whose name or description fits the prompt, or None when none does."""
    scored = [(fit(tool, prompt), -at, tool) for at, tool in enumerate(tools)]
    best = max(scored, key=lambda item: item[:2], default=None)
    return best[2] if best is not None and best[0] >= 1 else None


def fit(tool: Tool, prompt: str) -> float:
    """How well a tool fits a prompt; below 1 it does not."""
    said = " ".join(words(prompt))
    if re.search(rf"(?<!\w){re.escape(tool.name)}(?!\w)", prompt):
        return 10.0
    spoken = set(keywords(prompt))
    title = set(keywords(re.sub(r"([a-z])([A-Z])", r"\1 \2", tool.name).replace("_", " "))) - {"tool", "get"}
    about = set(keywords(tool.description)) - title
    score = 3.0 * len(spoken & title) + 0.5 * len(spoken & about)
    if re.search(r"\b(use|using|call) (the|a|your) tool", said):
        score += 1.0
    if _arithmetic(prompt, tool):
        score += 2.0
    return score


def automatic_calls(conversation: Conversation) -> tuple[Call, ...]:
    """The calls a model would make on its own at this point; none when it would answer."""
    prompt = conversation.user
    done = _called_since_user(conversation)
    if conversation.last.role == "tool" and not _handed_over(conversation, done):
        return _next_step(conversation, done)
    tools = tuple(tool for tool in conversation.tools if tool.name not in done or tool.name != "handoff")
    own = tuple(tool for tool in tools if tool.name != "handoff")
    first = _steps(prompt)[0]
    tool = best_tool(own, first)
    if tool is None:
        first, tool = prompt, best_tool(own, prompt)
    if tool is None:
        handoff = next((tool for tool in tools if tool.name == "handoff"), None)
        return () if handoff is None or "handoff" in done else _handoff(handoff, prompt)
    return _one_each(tool, first) or (Call(tool.name, arguments(tool, first)),)


def _called_since_user(conversation: Conversation) -> list[str]:
    made: list[str] = []
    for message in reversed(conversation.messages):
        if message.role == "user":
            break
        made += [call.name for call in message.calls]
    return made


def _handed_over(conversation: Conversation, done: list[str]) -> bool:
    return done[:1] == ["handoff"] or "Please continue with the current request" in conversation.last.text


def _next_step(conversation: Conversation, done: list[str]) -> tuple[Call, ...]:
    """The second call of "do this, then do that": its first number is the result so far."""
    steps = _steps(conversation.user)
    if len(steps) <= len(done) or conversation.last.role != "tool":
        return ()
    step = steps[len(done)]
    tool = best_tool(conversation.tools, step)
    if tool is None:
        return ()
    return (Call(tool.name, arguments(tool, f"{conversation.last.text}\n{step}")),)


def _steps(prompt: str) -> list[str]:
    return re.split(r",?\s*\b(?:and )?then\b", prompt, flags=re.IGNORECASE)


def _handoff(tool: Tool, prompt: str) -> tuple[Call, ...]:
    """Hand over to the agent whose description fits, when one does."""
    agents = re.findall(
        r"['\"]?([A-Za-z_][\w ]*?)['\"]?\s*:\s*['\"]?([^'\"\n}]+)", tool.description.split("agents:")[-1]
    )
    spoken = set(keywords(prompt))
    scored = [(len(spoken & set(keywords(f"{name.replace('_', ' ')} {about}"))), name) for name, about in agents]
    best = max(scored, default=(0, ""), key=lambda item: item[0])
    if best[0] == 0:
        return ()
    return (Call(tool.name, {"to_agent": best[1], "reason": "It is better suited to the request."}),)


def _one_each(tool: Tool, prompt: str) -> tuple[Call, ...]:
    """Several calls for a list of names, when the tool takes one text."""
    properties = tool.parameters.get("properties") or {}
    places = names(prompt)
    if len(properties) != 1 or len(places) < 2 or not re.search(r"\band\b", prompt):
        return ()
    key, part = next(iter(properties.items()))
    if not isinstance(part, dict) or part.get("type") != "string" or part.get("enum"):
        return ()
    listed = [place for place in places if re.search(rf"{re.escape(place)}(\s*,|\s+and\b|\W*$)", prompt)]
    return tuple(Call(tool.name, {key: place}) for place in listed) if len(listed) > 1 else ()


def after_tools(conversation: Conversation) -> str:
    """The sentence that reports the newest tool results."""
    results: list[Message] = []
    for message in reversed(conversation.messages):
        if message.role != "tool":
            break
        results.insert(0, message)
    called = {call.id: call for m in conversation.messages for call in m.calls}
    asked = conversation.user
    return " ".join(_report(result, called.get(result.call_id), asked) for result in results)


def _report(result: Message, call: Call | None, asked: str) -> str:
    text = result.text.strip()
    if len(sentences(text)) > 2:
        return best_fact(text, asked) or text
    if call is not None and call.name == "get_weather":
        found = re.search(r"-?\d+", text)
        values = [v for v in call.arguments.values() if isinstance(v, str)] if isinstance(call.arguments, dict) else []
        if found:
            return f"It is {found[0]} degrees in {values[0] if values else 'Paris'}."
    if not text:
        return "The tool returned nothing."
    return text if text[-1] in ".!?}]" else f"The result is {text}."


_MATHS = (
    (re.compile(r"multipl|product"), re.compile(r"[*\u00d7]|\d\s*x\s*\d|\btimes\b|multipl|\bproduct\b")),
    (re.compile(r"\badd|\bsum|plus"), re.compile(r"\+|\bplus\b|\bsum\b|\badd")),
    (re.compile(r"subtract|minus|difference"), re.compile(r"\d\s*-\s*\d|\bminus\b|subtract|difference")),
    (re.compile(r"divi|quotient"), re.compile(r"\d\s*/\s*\d|divided by|\bdivide\b")),
    (re.compile(r"power|expon"), re.compile(r"\^|\*\*|to the power")),
    (re.compile(r"calculat|evaluat|expression|math"), re.compile(r"\d\s*[-+*/^]\s*\d|\bcalculate\b")),
)


def _arithmetic(prompt: str, tool: Tool) -> bool:
    """Whether the prompt asks for the sum the tool can do."""
    said = prompt.lower()
    about = f"{tool.name.replace('_', ' ')} {tool.description}".lower()
    return bool(re.search(r"\d", said)) and any(
        subject.search(about) and asked.search(said) for subject, asked in _MATHS
    )
