"""Fixed answers to a handful of prompts, for tests that need to know the exact text."""

from __future__ import annotations

from kserve_core.devserver.brain.conversation import Answer, Call, Conversation

_PARIS = Call("get_weather", {"city": "Paris"})
_LONDON = Call("get_weather", {"city": "London"})

SCRIPT: dict[str, Answer] = {
    "Say hello.": Answer("Hello! How can I help you today?"),
    "Count to ten.": Answer("one two three four five six seven eight nine ten."),
    "Weather in Paris?": Answer(calls=(_PARIS,)),
    "Weather in Paris and London?": Answer(calls=(_PARIS, _LONDON)),
    "Look it up, then tell me.": Answer("Let me look that up.\n", calls=(_LONDON,)),
    "Think: what is two plus two?": Answer("The answer is four.", reasoning="Two plus two makes four."),
    "Think, then call.": Answer(reasoning="I need the weather.", calls=(_PARIS,)),
}

AFTER_WEATHER = "It is 21 degrees in Paris."


def scripted(conversation: Conversation) -> Answer | None:
    """The fixed answer, when the newest message is one of the prompts."""
    if conversation.last.role != "user":
        return None
    answer = SCRIPT.get(conversation.last.text.strip())
    if answer is None or not answer.calls:
        return answer
    offered = {tool.name for tool in conversation.tools}
    if all(call.name in offered for call in answer.calls):
        return answer
    return None
