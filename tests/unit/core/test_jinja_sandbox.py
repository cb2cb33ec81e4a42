"""What templates may do, and what stops those that do too much."""

from __future__ import annotations

import json
import time
import tracemalloc

import pytest

from kserve_core.errors import ConfigurationError
from kserve_core.jinja_sandbox import compile_template, render_template

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi <b>there</b>"},
    {"role": "assistant", "content": "<think>hm</think>\n\nYo"},
]


def render(source, **variables):
    return render_template(source, {"messages": MESSAGES, **variables}, max_length=8_000_000)


# --- what real templates use


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("{% for m in messages %}{{ m['role'] + ':' }}{% endfor %}", "system:user:assistant:"),
        ("{%- for m in messages[1:] -%}\n  {{ loop.index0 ~ m.role }}\n{%- endfor -%}", "0user1assistant"),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "3"),
        ("{% macro f(x) %}[{{ x }}]{% endmacro %}{{ f(1) }}{{ f('a') }}", "[1][a]"),
        ("{% macro f() %}<{{ caller() }}>{% endmacro %}{% call f() %}x{% endcall %}", "<x>"),
        ("{{ messages[2].content.split('</think>')[-1].lstrip('\\n') }}", "Yo"),
        ("{{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|list|length }}", "1"),
        ("{{ messages[-1]['content'] is string and messages is not mapping }}", "True"),
        ("{{ {'a': [1, None, true], 'b': 'é<'}|tojson }}", '{"a": [1, null, true], "b": "é<"}'),
        ("{{ [1]|tojson(indent=2) }}", "[\n  1\n]"),
        ("{{ {'b': 1, 'a': 2}|tojson(separators=(',', ':'), sort_keys=true) }}", '{"a":2,"b":1}'),
        ("{% for k, v in {'x': 1}.items() %}{{ k }}={{ v }}{% endfor %}", "x=1"),
        ("{% for k, v in {'x': 1}|items %}{{ k }}={{ v }}{% endfor %}", "x=1"),
        ("{{ 'a,b'.split(',')|join('-')|upper }} {{ '-'.join(['c', 'd']) }}", "A-B c-d"),
        ("{{ 'aXa'|replace('X', 'b') }}{{ 'aXa'.replace('a', '') }}", "abaX"),
        ("{{ messages[9].content }}|{{ nothing is defined }}|{{ nothing|default('d') }}", None),
        ("{% for i in range(5) %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "0134"),
        ("{% for i in range(5) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% generation %}{{ messages[2].role }}{% endgeneration %}", "assistant"),
        ("{{ strftime_now('%Y')|length }}", "4"),
        ("{% set m = messages[::-1] %}{{ m[0].role }}", "assistant"),
        ("{% set x %}a{{ 1 }}{% endset %}{{ x }}", "a1"),
        ("{{ loop }}{{ 7 // 2 }}{{ 7 % 4 }}{{ 2 ** 3 }}{{ -1|abs }}{{ '3'|int + 1 }}", "33814"),
        ("{% if 'user' in messages|map(attribute='role') %}y{% endif %}", "y"),
        ("{% for m in messages recursive %}{{ m.role[:1] }}{% endfor %}", "sua"),
        ("{{ messages[1].content|e }}", "Hi &lt;b&gt;there&lt;/b&gt;"),
        ("{{ messages[1].content|safe }}", "Hi <b>there</b>"),
        ("  {% if true %}\n  x\n  {% endif %}\n", "  x\n"),
    ],
)  # fmt: skip
def test_what_chat_templates_do(source, wanted):
    if wanted is None:
        with pytest.raises(ConfigurationError, match="UndefinedError"):
            render(source)
        return
    assert render(source) == wanted


def test_a_template_with_everything_a_big_family_uses():
    source = """
    {%- if tools %}{{- '<tools>' }}{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}{{- '</tools>' }}
    {%- endif %}
    {%- set ns = namespace(last=messages|length - 1, found=false) %}
    {%- for m in messages[::-1] %}
        {%- set index = (messages|length - 1) - loop.index0 %}
        {%- if not ns.found and m.role == 'user' and not (m.content.startswith('<r>') and m.content.endswith('</r>')) %}
            {%- set ns.found = true %}{%- set ns.last = index %}
        {%- endif %}
    {%- endfor %}
    {{- ns.last }}"""
    tools = [{"type": "function", "function": {"name": "é"}}]
    assert render(source, tools=tools) == f"<tools>\n{json.dumps(tools[0], ensure_ascii=False)}</tools>1"
    assert render(source, tools=None) == "1"


# --- what Python has behind it


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__class__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ namespace.__init__ }}",
        "{{ messages|attr('append') }}",
        "{{ messages|map(attribute='__class__')|list }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ '{0.__class__}'|format(1) }}",
        "{{ ('%s')|format(1) }}",
        "{{ [''.format]|first()('x') }}",
        "{{ self._TemplateReference__context }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% include '/etc/passwd' %}",
        "{% import 'x' as x %}",
        "{% from 'x' import y %}",
        "{% extends 'x' %}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='x') }}",
        "{{ messages[0].pop('role') }}",
        "{{ (1).to_bytes(9, 'big') }}",
        "{{ dict.fromkeys('ab') }}",
    ],
)
def test_no_way_out(source):
    try:
        out = render(source)
    except ConfigurationError:
        out = ""
    assert out in {"", "[Undefined, Undefined, Undefined]"}
    assert MESSAGES[0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize("name", ["lipsum", "cycler", "joiner", "self.x", "environment", "context", "config"])
def test_nothing_else_is_in_reach(name):
    with pytest.raises(ConfigurationError):
        render("{{ " + name + "() }}")


# --- size and time

BOMBS = {
    "a long text": "{{ 'a' * 10**9 }}",
    "a long text the other way round": "{{ 10**9 * 'a' }}",
    "a long list": "{{ [1] * 10**9 }}",
    "text by doubling": "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "text by tilde": "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "lists by doubling": "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "lists of lists": (
        "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}"
    ),
    "tuples as keys": (
        "{% set ns = namespace(x=(1,)) %}{% for i in range(99) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ {ns.x: 1} }}"
    ),
    "dicts of dicts": (
        "{% set ns = namespace(x={}) %}{% for i in range(99) %}{% set ns.x = dict(a=ns.x, b=ns.x) %}{% endfor %}{{ ns.x }}"
    ),
    "namespaces of namespaces": (
        "{% set ns = namespace(x=1) %}{% for i in range(99) %}{% set ns.x = namespace(a=ns.x, b=ns.x) %}{% endfor %}"
        "{{ ns.x }}"
    ),
    "replacing": "{% set x = 'a' * 999999 %}{{ x|replace('a', x) }}",
    "replacing nothing": "{% set x = 'a' * 999999 %}{{ x.replace('', x) }}",
    "joining": "{% set x = 'a' * 999999 %}{{ range(99999)|join(x) }}",
    "joining by method": "{% set x = 'a' * 999999 %}{{ x.join(range(99999)|map('string')) }}",
    "splitting": "{{ ('a ' * 3000000).split() }}",
    "padding": "{{ 'a'.ljust(10**9) }}",
    "padding in a filter": "{{ 'a'|center(10**9) }}",
    "indentation": "{{ messages|tojson(indent=10**9) }}{{ 'a'|indent(10**9) }}",
    "formatting": "{{ '{:>1000000000}'.format(1) }}",
    "formatting with a sign": "{{ '%1000000000d' % 1 }}",
    "a large number": "{{ 9 ** 9 ** 9 ** 9 }}",
    "large factors": "{% set ns = namespace(x=3) %}{% for i in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "a captured block": "{% set x %}{% for i in range(99999) %}{{ 'a' * 99999 }}{% endfor %}{% endset %}",
    "a macro's output": (
        "{% macro f() %}{% for i in range(99999) %}{{ 'a' * 99999 }}{% endfor %}{% endmacro %}{% set x = f() %}"
    ),
    "a long output": "{% for i in range(99999) %}{{ messages[0].content }}{{ 'a' * 9999 }}{% endfor %}",
    "many kept texts": (
        "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = ns.x + ['a' * 7000000] %}{% endfor %}"
    ),
    "many kept slices": (
        "{% set x = 'a' * 7000000 %}{% set ns = namespace(x=[]) %}"
        "{% for i in range(9999) %}{% set ns.x = ns.x + [x[1:]] %}{% endfor %}"
    ),
    "many kept copies by filter": (
        "{% set x = 'a' * 7000000 %}{% set ns = namespace(x=[]) %}"
        "{% for i in range(9999) %}{% set ns.x = ns.x + [x|upper] %}{% endfor %}"
    ),
    "a loop in a loop": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "a wide range": "{% for i in range(10**9) %}{% endfor %}",
    "macros that call twice": (
        "{% macro a(n) %}{% if n %}{{ a(n - 1) }}{{ a(n - 1) }}{% endif %}{% endmacro %}{{ a(60) }}"
    ),
    "recursion": "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "blocks that call twice": "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
    "a recursive loop": "{% for i in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "a namespace in itself": "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
    "names of the checks": (
        "{% set checked_step = dict %}{% set checked_value = dict %}{% set environment = 1 %}"
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    ),
    "deep brackets": "{{ " + "[" * 400 + "]" * 400 + " }}",
    "deep parentheses": "{{ " + "(" * 9000 + "1" + ")" * 9000 + " }}",
    "deep loops": "{% for a in messages %}" * 40 + "{% endfor %}" * 40,
    "a long chain": "{{ " + "1 + " * 9000 + "1 }}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_stopped(name):
    began = time.monotonic()
    with pytest.raises(ConfigurationError) as caught:
        render(BOMBS[name])
    assert time.monotonic() - began < 20
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("name", [name for name in BOMBS if name.startswith("many kept")] + ["a captured block"])
def test_a_bomb_does_not_fill_the_memory(name):
    tracemalloc.start()
    try:
        with pytest.raises(ConfigurationError):
            render(BOMBS[name])
        assert tracemalloc.get_traced_memory()[1] < 200_000_000
    finally:
        tracemalloc.stop()


def test_the_bound_on_the_output_is_the_callers():
    with pytest.raises(ConfigurationError, match="too large"):
        render_template("{% for i in range(99) %}12345{% endfor %}", {}, max_length=400)


# --- errors


def test_an_error_does_not_quote_the_conversation():
    with pytest.raises(ConfigurationError) as caught:
        render("{{ messages[0].content + 1 }}")
    assert "brief" not in str(caught.value)
    assert "TypeError" in str(caught.value)


def test_errors_say_where():
    with pytest.raises(ConfigurationError, match="line 3"):
        compile_template("a\nb\n{% endfor %}")
    with pytest.raises(ConfigurationError, match="'nope'"):
        compile_template("{{ 1|nope }}")


def test_a_template_after_a_bomb_has_a_budget_of_its_own():
    with pytest.raises(ConfigurationError):
        render(BOMBS["a loop in a loop"])
    assert render("{% for i in range(1000) %}{{ i % 10 }}{% endfor %}")[:4] == "0123"
