"""Constrained answers, by version."""

from __future__ import annotations

import orjson
import pytest
from unit.core.runtimes.vllm_wire import Server, fixture

from kserve_core.capabilities import ChatRequest, OutputConstraint, TextRequest
from kserve_core.errors import AuthenticationError, ConfigurationError

SCHEMA = {"title": "A joke!", "type": "object", "properties": {"setup": {"type": "string"}}}
HELLO = [{"role": "user", "content": "Hello"}]


def server(version=None):
    made = Server().route("/v1/chat/completions", (200, fixture("chat.json")))
    made.route("/v1/completions", lambda body: (200, b'{"choices":[{"index":0,"text":"x"}]}'))
    if version:
        made.route("/version", (200, orjson.dumps({"version": version})))
    return made


def chat(target, constraint=None, client=None, **fields):
    client = client or target.client(model="granite")
    client.run(client.runtime.chat(ChatRequest(messages=HELLO, constraint=constraint, **fields)))
    return {key: value for key, value in target.body.items() if key not in {"messages", "model"}}


def complete(target, constraint=None, **fields):
    client = target.client(model="granite")
    client.run(client.runtime.generate(TextRequest(prompts=["x"], constraint=constraint, **fields)))
    return {key: value for key, value in target.body.items() if key not in {"prompt", "model"}}


def test_json_for_chats_works_on_every_version_without_asking():
    target = server()
    assert chat(target, OutputConstraint("json_object")) == {"response_format": {"type": "json_object"}}
    assert chat(target, OutputConstraint("json_schema", SCHEMA, name="joke", strict=True)) == {
        "response_format": {"type": "json_schema", "json_schema": {"name": "joke", "schema": SCHEMA, "strict": True}}
    }
    assert "GET /version" not in target.asked


def test_a_schema_gets_a_name_that_the_server_takes():
    wire = chat(server(), OutputConstraint("json_schema", SCHEMA))["response_format"]["json_schema"]
    assert wire == {"name": "A_joke_", "schema": SCHEMA}
    wire = chat(server(), OutputConstraint("json_schema", {"type": "object"}))["response_format"]["json_schema"]
    assert wire["name"] == "answer"


@pytest.mark.parametrize("version", ["0.11.0", "0.11.0+rhai1", "0.32.0", "1.0.0", "v0.12.1rc2.dev3+g12ab"])
@pytest.mark.parametrize(("kind", "value"), [("regex", "a+"), ("choice", ["yes", "no"]), ("grammar", 'root ::= "a"')])
def test_other_forms_on_current_versions(version, kind, value):
    assert chat(server(version), OutputConstraint(kind, value)) == {"structured_outputs": {kind: value}}


@pytest.mark.parametrize("version", ["0.8.5", "0.8.5.post1", "0.9.2", "0.10.2", "0.10.1+rhaiv.2"])
def test_other_forms_on_versions_before_the_renaming(version):
    assert chat(server(version), OutputConstraint("choice", ["yes", "no"])) == {"guided_choice": ["yes", "no"]}


@pytest.mark.parametrize(("version", "field"), [("0.10.2", "guided_json"), ("0.32.0", "structured_outputs")])
def test_a_schema_for_text_completions(version, field):
    sent = complete(server(version), OutputConstraint("json_schema", SCHEMA))
    assert sent == {field: SCHEMA if field == "guided_json" else {"json": SCHEMA}}


def test_any_json_for_text_completions():
    target = server()
    assert complete(target, OutputConstraint("json_object")) == {"response_format": {"type": "json_object"}}


def test_the_version_is_asked_once_and_only_if_it_matters():
    target = server("0.10.2")
    client = target.client(model="granite")
    chat(target, client=client)
    assert "GET /version" not in target.asked
    for _ in range(3):
        chat(target, OutputConstraint("regex", "a+"), client=client)
    assert target.asked.count("GET /version") == 1


def test_a_version_that_is_known_is_not_asked_for():
    target = server()
    client = target.client(model="granite", server_version="0.9.1")
    assert chat(target, OutputConstraint("regex", "a+"), client=client) == {"guided_regex": "a+"}
    assert "GET /version" not in target.asked


@pytest.mark.parametrize(
    "answer", [(404, b"nothing here"), (403, b'{"error":"forbidden"}'), (200, b"<html>"), (200, b'{"version":"main"}')]
)
def test_a_version_that_is_not_told_counts_as_current(answer):
    target = server().route("/version", answer)
    assert chat(target, OutputConstraint("regex", "a+")) == {"structured_outputs": {"regex": "a+"}}


def test_a_refused_token_is_told_by_the_request_itself():
    target = server().route("/version", (401, b'{"error":"Unauthorized"}'))
    target.route("/v1/chat/completions", (401, b'{"error":"Unauthorized"}'))
    with pytest.raises(AuthenticationError):
        chat(target, OutputConstraint("regex", "a+"))


def test_the_old_names_among_the_parameters_are_constraints():
    assert chat(server("0.32.0"), params={"guided_regex": "a+"}) == {"structured_outputs": {"regex": "a+"}}
    assert chat(server("0.9.0"), params={"guided_choice": ["a"]}) == {"guided_choice": ["a"]}
    sent = chat(server(), params={"guided_json": {"type": "object"}})
    assert sent["response_format"]["json_schema"]["schema"] == {"type": "object"}


def test_the_servers_own_fields_pass_through():
    form = {"type": "structural_tag", "structures": [], "triggers": []}
    assert chat(server(), params={"response_format": form}) == {"response_format": form}


@pytest.mark.parametrize(
    "fields",
    [
        {"constraint": OutputConstraint("regex", "a"), "params": {"guided_json": {}}},
        {"constraint": OutputConstraint("regex", "a"), "params": {"response_format": {"type": "text"}}},
        {"constraint": OutputConstraint("regex", "a"), "extra_body": {"structured_outputs": {}}},
        {"params": {"guided_json": {}, "guided_regex": "a"}},
    ],
)
def test_two_forms_at_once(fields):
    with pytest.raises(ConfigurationError, match="one form"):
        chat(server("0.32.0"), **fields)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("json_schema", None), ("json_schema", "{}"), ("regex", ""), ("regex", None), ("grammar", 1), ("choice", []),
        ("choice", "yes"), ("choice", ["a", ""]), ("choice", [1]), ("xml", "x"),
    ],
)  # fmt: skip
def test_a_constraint_that_is_none(kind, value):
    target = server("0.32.0")
    with pytest.raises(ConfigurationError, match="cannot be constrained"):
        chat(target, OutputConstraint(kind, value))
    assert target.bodies == []
