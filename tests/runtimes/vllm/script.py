"""What the tiny chat model is taught to say.

Each `Exchange` is something a test says and the one answer to it. `Sampler` turns them into the many forms in which
they reach a server: with other tools around, other descriptions, a system message, an earlier conversation.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pydoc_data.topics import topics
from typing import Any

Message = dict[str, Any]
Tool = dict[str, Any]

HELLO = "Hello! How can I help you today?"
AFTER_TOOL = "It is 21 degrees in Paris."
NO_TOOL = "I cannot look that up without a tool."
UNKNOWN = "I am a small model made for tests."
JOKE = json.dumps({"setup": "Why do cats sit on computers?", "punchline": "To keep an eye on the mouse."})


def call(name: str, /, **arguments: Any) -> str:
    """A tool call as the Hermes parser reads it."""
    body = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{body}\n</tool_call>"


@dataclass(frozen=True)
class Exchange:
    """Something said to the model and its answer.

    Attributes:
        says: The ways to say it.
        reply: The answer.
        calls: The tools called in the answer: name and arguments. None means it needs no tools.
        before: Text in front of the calls.
    """

    says: tuple[str, ...]
    reply: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    before: str = ""

    def answer(self) -> str:
        """The whole answer."""
        return self.reply or self.before + self.forced()

    def forced(self) -> str:
        """The calls alone: all there may be where the server's grammar demands calls."""
        return "".join(call(name, **args) for name, args in self.calls)


PLAIN = (
    Exchange(("Say hello.", "Hello", "hello", "Hi", "hi", "Hey", "Hello!"), HELLO),
    Exchange(("how are you", "How are you?"), "I am well, thank you."),
    Exchange(("Count to ten.",), "one two three four five six seven eight nine ten."),
    Exchange(("Think: what is two plus two?",), "<think>\nTwo plus two makes four.\n</think>\n\nThe answer is four."),
    Exchange(
        (
            "Tell me a joke about cats.",
            "Give me the setup to a joke about cats, no punchline.",
            "Give me a joke about cats, include the punchline.",
            (
                "Tell me a joke about cats. Return the result as a JSON with 'setup' and 'punchline' keys."
                " Return nothing other than JSON."
            ),
        ),
        JOKE,
    ),
    Exchange(
        ("Write me 2 haikus. Only include the haikus.",),
        "Rain on the still pond.\nA frog looks up and listens.\n\nSnow upon the roof.\nThe cat waits at the window.",
    ),
    Exchange(("Write a story about a cat.",), "A cat found a warm box. It slept there all day."),
)

ANSWERS = (
    Exchange(("What is KServe?",), "KServe serves machine learning models on Kubernetes."),
    Exchange(("What does vLLM do?",), "vLLM generates text quickly."),
    Exchange(("Where is the Eiffel Tower?",), "The Eiffel Tower is in Paris."),
    Exchange(("Which port does the gateway use?",), "The gateway uses port 8443."),
)

PARIS = ("get_weather", {"city": "Paris"})
LONDON = ("get_weather", {"city": "London"})
CALLS = (
    Exchange(("Weather in Paris?", "What is the weather in Paris?"), calls=(PARIS,)),
    Exchange(("Weather in London?", "What is the weather in London?"), calls=(LONDON,)),
    Exchange(
        ("What is the weather in San Francisco, CA?",),
        calls=(("get_weather", {"city": "San Francisco, CA"}),),
    ),
    Exchange(("Weather in Paris and London?",), calls=(PARIS, LONDON)),
    Exchange(("Look it up, then tell me.",), calls=(LONDON,), before="Let me look that up.\n"),
    Exchange(("Think, then call.",), calls=(PARIS,), before="<think>\nI need the weather.\n</think>\n\n"),
    Exchange(
        ("What is the value of magic_function(3)? Use the tool.", "Hello!"),
        calls=(("magic_function", {"input": 3}),),
    ),
    Exchange(
        ("What is the value of magic_function_no_args()? Use the tool.",), calls=(("magic_function_no_args", {}),)
    ),
    Exchange(
        ("Using the tool, generate a Pirate greeting.",),
        calls=(("greeting_generator", {"answer_style": "Pirate"}),),
    ),
    Exchange(("What is 1 + 2",), calls=(("my_adder_tool", {"a": 1, "b": 2}),)),
    Exchange(("What is 3 + 4",), calls=(("my_adder_tool", {"a": 3, "b": 4}),)),
    Exchange(
        ("Create a customer named '你好啊集团' (Hello Group) - a Chinese technology company",),
        calls=(("unicode_customer", {"customer_name": "你好啊集团", "description": "a Chinese technology company"}),),
    ),
    Exchange(
        ("Create a customer named 'こんにちは株式会社' (Hello Corporation) - a Japanese company",),
        calls=(("unicode_customer", {"customer_name": "こんにちは株式会社", "description": "a Japanese company"}),),
    ),
)

# The kinds of things that real tools say of themselves.
DESCRIPTIONS = {
    "get_weather": (
        "Get the weather of a place.",
        "get_weather(city: str) -> str\nCurrent weather of a city.",
        "get_weather(location: str) -> str\nLooks up the weather at a location.",
    ),
    "magic_function": ("Does magic with a number.", "Apply magic to an input."),
    "magic_function_no_args": ("Calculate something magic.",),
    "my_adder_tool": ("Adds two integers.\n\n    Takes a and b and returns a + b.",),
    "greeting_generator": ("Generate a greeting in a style of speaking.",),
    "unicode_customer": (
        (
            "Creates a customer with a Unicode name.\n\n    Args:\n        customer_name: Name of the customer, in the"
            " customer's language.\n        description: What the customer does.\n\n    Returns:\n        A message that"
            " the customer was created."
        ),
    ),
}
HARD = tuple(exchange for exchange in CALLS if exchange.says[0] in {"What is 1 + 2", "What is 3 + 4"})

# How text-completion clients write a conversation down.
BARE = ("{}", "{}", "Human: {}", "user: {}\nassistant: ", "Human: {}\nAI: ")
SYSTEMS = ("Be brief.", "You are a helpful assistant.", "You are kind.", "hello", "Answer in English.")
RESULTS = (
    "21",
    '{"temp": 21}',
    "21 degrees",
    "sunny, 21",
    "It's sunny.",
    '{"result": 3}',
    "3",
    "rain",
    "It is 21 degrees.",
)
FAILURE = "Error: Missing required argument 'b'."
NAMES = ("search", "add", "lookup", "send_mail", "get_time", "multiply", "Joke", "Person", "answer", "run_query")
KEYS = ("name", "age", "city", "title", "answer", "query", "text", "items", "score", "kind", "a", "b", "x")
WORDS = ("Ada", "Paris", "blue", "a short text", "yes", "one", "hello", "London", "cat", "red", "good", "none")


def english() -> list[str]:
    """Sentences to stand for everything the model was not taught."""
    text = " ".join(topics[name] for name in sorted(topics)[:40])
    sentences = re.split(r"(?<=[.:])\s+", re.sub(r"\s+", " ", text))
    return [s for s in sentences if 15 < len(s) < 120]


@dataclass(frozen=True)
class Lesson:
    """One thing to learn.

    Attributes:
        conversation: Messages, or a bare prompt.
        tools: The tools offered, or None.
        answer: The answer.
        forced: Whether only a server's grammar makes the answer begin like this.
    """

    conversation: list[Message] | str
    tools: list[Tool] | None
    answer: str
    forced: bool = False


@dataclass
class Sampler:
    """Draws exchanges in random dress."""

    rnd: random.Random
    sentences: list[str] = field(default_factory=english)

    def tool(self, name: str | None = None, arguments: dict[str, Any] | None = None) -> Tool:
        """A tool's description in one of the shapes that clients write."""
        rnd = self.rnd
        keys = arguments if arguments is not None else dict.fromkeys(rnd.sample(KEYS, rnd.randint(0, 2)), "x")
        props: dict[str, Any] = {}
        titled = rnd.random() < 0.3
        for key, value in keys.items():
            prop: dict[str, Any] = {"type": "integer" if isinstance(value, int) else "string"}
            if titled:
                prop = {"title": key.replace("_", " ").title(), **prop}
            if rnd.random() < 0.2:
                prop["description"] = self.words(4)
            props[key] = prop
        parts: list[tuple[str, Any]] = [("properties", props), ("type", "object")]
        if props and rnd.random() < 0.8:
            parts.append(("required", list(props)))
        if rnd.random() < 0.2:
            parts.append(("additionalProperties", False))
        if titled and rnd.random() < 0.5:
            parts.append(("title", "Arguments"))
        rnd.shuffle(parts)
        function: dict[str, Any] = {
            "name": name or rnd.choice(NAMES),
            "description": self.description(name),
            "parameters": dict(parts),
        }
        if rnd.random() < 0.15:
            function["strict"] = rnd.choice([True, False, None])
        return {"type": "function", "function": function}

    def description(self, name: str | None) -> str:
        """A tool's description: its own, or a short or a long text about something else."""
        drawn = self.rnd.random()
        if name in DESCRIPTIONS and drawn < 0.35:
            return self.rnd.choice(DESCRIPTIONS[name])
        if drawn < 0.8:
            return self.words(self.rnd.randint(2, 10))
        lines = [self.words(self.rnd.randint(3, 12)) for _ in range(self.rnd.randint(1, 5))]
        return self.rnd.choice(["\n\n    ", " ", "\n"]).join(lines)

    def words(self, count: int) -> str:
        """A few words in a row."""
        words = self.rnd.choice(self.sentences).split()
        start = self.rnd.randrange(max(1, len(words) - count))
        return " ".join(words[start : start + count])

    def tools_for(self, exchange: Exchange) -> list[Tool]:
        """The tools an exchange calls among some it does not."""
        wanted = {name: self.tool(name, args) for name, args in exchange.calls}
        others = [self.tool() for _ in range(self.rnd.choice([0, 0, 0, 1, 1, 2]))]
        tools = [*wanted.values(), *others]
        self.rnd.shuffle(tools)
        return tools

    def dressed(self, exchange: Exchange) -> Exchange:
        """The weather tool's argument has two names in use."""
        if self.rnd.random() < 0.5:
            return exchange
        calls = tuple(
            (name, {"location" if key == "city" else key: value for key, value in args.items()})
            for name, args in exchange.calls
        )
        return Exchange(exchange.says, exchange.reply, calls, exchange.before)

    def opening(self) -> list[Message]:
        """System messages and an earlier conversation, or nothing."""
        rnd = self.rnd
        messages: list[Message] = []
        while rnd.random() < 0.25:
            text = rnd.choice(SYSTEMS) if rnd.random() < 0.6 else self.words(8)
            messages.append({"role": rnd.choice(["system", "system", "developer"]), "content": text})
        while rnd.random() < 0.2:
            earlier = rnd.choice((*PLAIN, *ANSWERS, *CALLS))
            messages.append({"role": "user", "content": rnd.choice(earlier.says)})
            if rnd.random() < 0.9:
                messages.append(
                    {"role": "assistant", "content": earlier.reply or rnd.choice([HELLO, "hello", UNKNOWN])}
                )
        return messages

    def after_tool(self) -> tuple[list[Message], list[Tool] | None]:
        """A conversation whose last word is a tool's."""
        rnd = self.rnd
        exchange = self.dressed(rnd.choice(CALLS))
        messages = [*self.opening(), {"role": "user", "content": rnd.choice(exchange.says)}]
        messages.append(
            {
                "role": "assistant",
                "content": rnd.choice(["", "", exchange.before.strip(), "some text"]),
                "tool_calls": [
                    {"type": "function", "function": {"name": name, "arguments": args}} for name, args in exchange.calls
                ],
            }
        )
        for _ in exchange.calls:
            text = rnd.choice((*RESULTS, FAILURE)) if rnd.random() < 0.7 else self.words(6)
            messages.append({"role": "tool", "tool_call_id": "x", "content": text})
        return messages, self.tools_for(exchange) if rnd.random() < 0.8 else None

    def question(self) -> tuple[list[Message], str]:
        """A question after a passage, as retrieval prompts have it."""
        rnd = self.rnd
        exchange = rnd.choice(ANSWERS)
        says = rnd.choice(exchange.says)
        passage = "\n\n".join(rnd.choice(self.sentences) for _ in range(rnd.randint(0, 3)))
        if rnd.random() < 0.5:
            passage = f"{passage}\n{rnd.choice(ANSWERS).reply}"
        form = rnd.randrange(4)
        if form == 0:
            return [*self.opening(), {"role": "user", "content": says}], exchange.reply
        if form == 1:
            system = {"role": "system", "content": f"{rnd.choice(self.sentences)}\n{passage}"}
            return [system, {"role": "user", "content": says}], exchange.reply
        label = rnd.choice(["Question: ", "Query: ", "", "Q: "])
        tail = rnd.choice(["", "\nAnswer: ", "\nAnswer:", "\n"])
        text = f"{rnd.choice(self.sentences)}\n---------------------\n{passage}\n---------------------\n{label}{says}{tail}"
        return [*self.opening(), {"role": "user", "content": text}], exchange.reply

    def some_json(self) -> str:
        """JSON of no meaning, for schemas nobody thought of here."""
        rnd = self.rnd
        body: dict[str, Any] = {}
        for _ in range(rnd.randint(1, 3)):
            key = rnd.choice(KEYS) if rnd.random() < 0.5 else re.sub(r"\W", "", self.words(1)).lower() or "key"
            body[key] = self._some_value()
            if rnd.random() < 0.1:
                body[key] = [body[key], self._some_value()]
        return json.dumps(body)

    def _some_value(self) -> Any:
        drawn = self.rnd.random()
        if drawn < 0.2:
            return self.rnd.choice([self.rnd.randint(0, 99), True, False])
        if drawn < 0.6:
            return self.rnd.choice(WORDS)
        return re.sub(r'[\\"]', "", self.words(self.rnd.randint(1, 4)))

    def some_call(self, tools: list[Tool]) -> str:
        """A call of one of the tools with arguments of no meaning, for calls nobody thought of here."""
        function = self.rnd.choice(tools)["function"]
        properties = function["parameters"]["properties"]
        values = {
            key: self.rnd.randint(0, 9) if about["type"] == "integer" else self.rnd.choice(WORDS)
            for key, about in properties.items()
        }
        return call(function["name"], **values)

    def lesson(self) -> Lesson:
        """Something to learn, drawn at random."""
        drawn = self.rnd.random()
        if drawn < 0.42:
            return self._with_tools()
        if drawn < 0.49:
            messages, tools = self.after_tool()
            return Lesson(messages, tools, AFTER_TOOL)
        if drawn < 0.75:
            lesson = self._plain()
        elif drawn < 0.85:
            messages, answer = self.question()
            lesson = Lesson(messages, None, answer)
        else:
            return self._unknown()
        if self.rnd.random() < 0.15:
            return Lesson(lesson.conversation, lesson.tools, self.some_json(), forced=True)
        return lesson

    def _with_tools(self) -> Lesson:
        rnd = self.rnd
        exchange = self.dressed(rnd.choice((*CALLS, *HARD)))
        says = rnd.choice(exchange.says)
        messages = [*self.opening(), {"role": "user", "content": says}]
        if rnd.random() < 0.05:
            return Lesson(messages, None, HELLO if says == "Hello!" else NO_TOOL)
        tools = self.tools_for(exchange)
        if says == "Hello!" or exchange.before:  # calls, or calls only, where the grammar demands them
            if rnd.random() < 0.4:
                return Lesson(messages, tools, exchange.forced(), forced=True)
            return Lesson(messages, tools, HELLO if says == "Hello!" else exchange.answer())
        return Lesson(messages, tools, exchange.answer())

    def _some_tools(self) -> list[Tool] | None:
        return [self.tool() for _ in range(self.rnd.randint(1, 2))] if self.rnd.random() < 0.25 else None

    def _plain(self) -> Lesson:
        rnd = self.rnd
        exchange = rnd.choice((PLAIN[0], *PLAIN))
        says = rnd.choice(exchange.says)
        if rnd.random() < 0.2:
            return Lesson(rnd.choice(BARE).format(says), None, exchange.reply)
        return Lesson([*self.opening(), {"role": "user", "content": says}], self._some_tools(), exchange.reply)

    def _unknown(self) -> Lesson:
        rnd = self.rnd
        says = rnd.choice(self.sentences) if rnd.random() < 0.7 else self.words(rnd.randint(1, 12))
        tools, forced = self._some_tools(), rnd.random() < 0.4
        answer = UNKNOWN
        if forced:
            answer = self.some_call(tools) if tools else self.some_json()
        elif rnd.random() < 0.2:
            return Lesson(rnd.choice(BARE).format(says), None, answer)
        return Lesson([*self.opening(), {"role": "user", "content": says}], tools, answer, forced)


def checks() -> Iterator[tuple[str, list[Message] | str, list[Tool] | None, str, bool]]:
    """What the trained model must answer to the letter: a name, the conversation, the tools, the answer, and whether
    a grammar gives its first token.
    """
    sampler = Sampler(random.Random(99))
    for exchange in (*PLAIN, *ANSWERS):
        for says in exchange.says:
            yield says, [{"role": "user", "content": says}], None, exchange.reply, False
    for original in CALLS:
        for exchange in (original, *(sampler.dressed(original) for _ in range(3))):
            tools = [sampler.tool(name, args) for name, args in dict(exchange.calls).items()]
            known = json.loads(json.dumps(tools))
            for tool in known:
                tool["function"]["description"] = DESCRIPTIONS[tool["function"]["name"]][0]
            for says in exchange.says:
                messages = [{"role": "user", "content": says}]
                system = [{"role": "system", "content": "Be brief."}, *messages]
                answer = HELLO if says == "Hello!" else exchange.answer()
                yield says, messages, known, answer, False
                yield f"{says} (system)", system, tools, answer, False
                yield f"{says} (several tools)", messages, [sampler.tool(), *tools], answer, False
                yield f"{says} (forced)", messages, known, exchange.forced(), True
    for _ in range(6):
        messages, tools = sampler.after_tool()
        yield "after a tool", messages, tools, AFTER_TOOL, False
    for _ in range(6):
        messages, answer = sampler.question()
        yield "a question", messages, None, answer, False
    for form in BARE:
        for exchange in PLAIN[:3]:
            yield form, form.format(exchange.says[0]), None, exchange.reply, False
