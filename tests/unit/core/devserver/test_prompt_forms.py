"""The rules that stand in for a model: retrieval prompts, chat engines, agents in plain text."""

from __future__ import annotations

import json

import pytest

CONTEXT = (
    "The Eiffel Tower is 330 metres tall. It was built by Gustave Eiffel in 1889.\n\n"
    "The office coffee machine is on the third floor. Opening hours are nine to five."
)
TALL = "The Eiffel Tower is 330 metres tall."
COFFEE = "The office coffee machine is on the third floor."


@pytest.fixture
def ask(chat):
    def post(*messages, **fields):
        said = [{"role": role, "content": text} for role, text in messages]
        return chat(said, **fields).json()["choices"][0]["message"]["content"]

    return post


FORMS = [
    (
        "The context information:\n---------------------\n{context}\n---------------------\n"
        "Answer from nothing else.\nQuery: {question}\nAnswer: "
    ),
    "Answer from this context only:\n{context}\n\nQuestion: {question}\n",
    (
        "Use the retrieved context to answer. If the answer is not there, say that you don't know.\n"
        "Question: {question} \nContext: {context} \nAnswer:"
    ),
    "Use these pieces of context to answer the question at the end.\n\n{context}\n\nQuestion: {question}\nHelpful Answer:",
    "<context>\n{context}\n</context>\n\nPlease help: {question}",
    "Context:\n{context}\n\n{question}",
    "Documents:\n---\n{context}\n---\n{question}",
]


@pytest.mark.parametrize("form", FORMS)
def test_questions_about_a_context(ask, form):
    def answer(question):
        return ask(("user", form.format(context=CONTEXT, question=question)))

    assert answer("How tall is the Eiffel Tower?") == TALL
    assert answer("Where can I find the coffee machine?") == COFFEE
    assert answer("What is photosynthesis?") == "I don't know."


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_context_in_the_system_message(ask, role):
    system = f"You answer questions. Use the following context.\n\n{CONTEXT}"
    assert ask((role, system), ("user", "Who built the tower?")) == "It was built by Gustave Eiffel in 1889."
    talk = [(role, system), ("user", "Hi"), ("assistant", "Hello"), ("user", "Where is the coffee machine?")]
    assert ask(*talk) == COFFEE


def test_what_was_said_before_is_remembered(ask):
    talk = [("user", "My name is Bob."), ("assistant", "Noted."), ("user", "What is my name?")]
    assert ask(*talk) == "My name is Bob."


REFINE = (
    "New Context: {context}\nQuery: {question}\nOriginal Answer: {answer}\nNew Answer: ",
    (
        "The original query is as follows: {question}\nThere is an existing answer: {answer}\n"
        "We can refine it with more context below.\n------------\n{context}\n------------\nRefined Answer: "
    ),
)


@pytest.mark.parametrize("form", REFINE)
def test_refining_keeps_the_better_answer(ask, form):
    question = "How tall is the Eiffel Tower?"
    useless = form.format(question=question, answer=TALL, context="Coffee is on the third floor.")
    assert ask(("user", useless)) == TALL
    useful = form.format(question=question, answer="I don't know.", context=CONTEXT)
    assert ask(("user", useful)) == TALL


def test_citations_name_their_source(ask):
    prompt = (
        "Answer from the sources and cite them.\nNow it's your turn. Below are several numbered sources:\n------\n"
        f"Source 1:\n{COFFEE}\n\nSource 2:\n{TALL}\n------\nQuery: How tall is the Eiffel Tower?\nAnswer: "
    )
    assert ask(("user", prompt)) == "The Eiffel Tower is 330 metres tall [2]."


def test_summaries_use_the_text(ask):
    answer = ask(("user", f"Write a concise summary of the following:\n\n{CONTEXT}\n\nCONCISE SUMMARY:"))
    assert TALL in answer
    assert len(answer) < len(CONTEXT)


@pytest.mark.parametrize(
    "messages",
    [
        [
            (
                "user",
                (
                    "Rewrite the message as a standalone question.\n\n<Chat History>\nuser: Who built the Eiffel Tower?\n"
                    "assistant: It was built by Gustave Eiffel.\n\n<Follow Up Message>\nHow tall is it?\n\n"
                    "<Standalone question>\n"
                ),
            )
        ],
        [
            ("system", "Formulate a standalone question. Do NOT answer it."),
            ("user", "Who built the Eiffel Tower?"),
            ("assistant", "It was built by Gustave Eiffel."),
            ("user", "How tall is it?"),
        ],
    ],
)
def test_follow_up_questions_become_standalone(ask, messages):
    assert "Eiffel Tower" in ask(*messages)


def test_choosing_from_a_list(ask, chat):
    prompt = (
        "Some choices are given below.\n---------------------\n(1) Facts about the Eiffel Tower\n\n"
        "(2) Facts about the coffee machine\n---------------------\n"
        "Return the choice that is most relevant to the question: 'Where is the coffee machine?'\n"
    )
    assert json.loads(ask(("user", prompt + "The output should be ONLY JSON.")))[0]["choice"] == 2
    assert ask(("user", prompt + "Use the format 'ANSWER: <number>'.")).startswith("ANSWER: 2")
    pick = {
        "type": "function",
        "function": {
            "name": "Pick",
            "parameters": {
                "type": "object",
                "properties": {"index": {"type": "integer"}, "reason": {"type": "string"}},
                "required": ["index", "reason"],
            },
        },
    }
    message = chat(prompt, tools=[pick], tool_choice="required").json()["choices"][0]["message"]
    assert json.loads(message["tool_calls"][0]["function"]["arguments"])["index"] == 2


def test_sub_questions_go_to_the_tool_they_are_about(ask):
    tools = {"tower": "Facts about the Eiffel Tower", "office": "Facts about the office coffee machine"}
    prompt = (
        "Output a list of sub-questions (sub_question, tool_name) in json markdown.\n"
        f"<Tools>\n```json\n{json.dumps(tools)}\n```\n\n<User Question>\n"
        "How tall is the Eiffel Tower and where is the office coffee machine?\n\n<Output>\n"
    )
    answer = ask(("user", prompt)).removeprefix("```json").removesuffix("```")
    assert json.loads(answer) == {
        "items": [
            {"sub_question": "How tall is the Eiffel Tower?", "tool_name": "tower"},
            {"sub_question": "Where is the office coffee machine?", "tool_name": "office"},
        ]
    }


def test_keywords_and_relevant_documents(ask):
    prompt = "Extract up to 3 keywords.\n---------------------\nThe tower is tall\n---------------------\n'KEYWORDS: <keywords>'"
    assert ask(("user", prompt)) == "KEYWORDS: tower, tall"
    prompt = (
        "Example:\nDoc: 9, Relevance: 7\nLet's try this now: \n\n"
        f"Document 1:\n{TALL}\n\nDocument 2:\n{COFFEE}\nQuestion: Where is the coffee machine?\nAnswer:\n"
    )
    assert ask(("user", prompt)).startswith("Doc: 2, Relevance: ")


def test_a_schema_in_the_prompt_is_filled(ask):
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    for text in (json.dumps(schema), json.dumps(schema).replace("{", "{{").replace("}", "}}")):
        answer = ask(("user", f"The band is called 'Blue'.\nHere's a JSON schema to follow:\n{text}\nOutput JSON."))
        assert json.loads(answer) == {"name": "Blue"}


REACT = (
    "You may use these tools:\n> Tool Name: multiply\nTool Description: Multiply two numbers\n"
    'Tool Args: {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, '
    '"required": ["a", "b"]}\n\nFormat:\nThought: ...\nAction: tool name\nAction Input: JSON\nObservation: ...\nAnswer: ...'
)


def test_a_text_agent_acts_and_then_answers(ask):
    start = [("system", REACT), ("user", "What is 6 times 7?")]
    step = ask(*start)
    assert step.splitlines()[1:] == ["Action: multiply", 'Action Input: {"a": 6, "b": 7}']
    for role in ("user", "tool"):
        done = ask(*start, ("assistant", step), (role, "Observation: 42"))
        assert done.startswith("Thought:")
        assert done.endswith("\nAnswer: 42.")
    more = [
        *start,
        ("assistant", step),
        ("user", "Observation: 42"),
        ("assistant", "Answer: 42"),
        ("user", "And 2 times 3?"),
    ]
    assert 'Action Input: {"a": 2, "b": 3}' in ask(*more)


FLAT = """Tools:
search(query: str) -> str - Search the documents
multiply(a: int, b: int) -> int - Multiply two numbers

Question: the question
Action: should be one of [search, multiply]
Action Input: the input
Observation: the result
Final Answer: the answer

Begin!

Question: What is 6 times 7?
Thought:"""


def test_a_text_agent_in_one_prompt(complete):
    step = complete(FLAT, max_tokens=100).json()["choices"][0]["text"]
    assert 'Action: multiply\nAction Input: {"a": 6, "b": 7}' in step
    done = complete(f"{FLAT} {step}\nObservation: 42\nThought:", max_tokens=100).json()["choices"][0]["text"]
    assert done.endswith("Final Answer: 42.")


@pytest.mark.parametrize(
    "prompt",
    [
        "<|im_start|>system\nContext: {c}<|im_end|>\n<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n",
        (
            "<|start_header_id|>system<|end_header_id|>\n\nContext: {c}<|eot_id|><|start_header_id|>user<|end_header_id|>"
            "\n\n{q}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        ),
        "<|system|>\nContext: {c}\n<|user|>\n{q}\n<|assistant|>\n",
        "[INST] <<SYS>>\nContext: {c}\n<</SYS>>\n\n{q} [/INST]",
        "<start_of_turn>user\nContext: {c}\n\nQuestion: {q}<end_of_turn>\n<start_of_turn>model\n",
        "system: Context: {c}\nuser: {q}\nassistant: ",
    ],
)
def test_flat_prompts_are_understood_as_conversations(complete, prompt):
    text = prompt.format(c=CONTEXT, q="How tall is the Eiffel Tower?")
    assert complete(text, max_tokens=60).json()["choices"][0]["text"] == TALL
