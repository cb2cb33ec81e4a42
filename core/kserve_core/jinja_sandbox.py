"""Renders a user's Jinja chat template in a sandbox, bounded in steps, size and time.

On top of Jinja's own sandbox, only the filters and methods that chat templates use are there, each with its cost
checked beforehand; operators that make text or lists are checked; loops and calls are counted. The checks are
reached through the environment and not by names, so that a template cannot replace them by names of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, wraps
from typing import Any, NoReturn

from kserve_core.errors import ConfigurationError

try:
    import jinja2  # noqa: F401 - whether it is there
except ImportError as error:  # pragma: no cover - needs an environment without Jinja
    message = "A Jinja chat template needs the package jinja2."
    raise ConfigurationError(message, hint="pip install 'kserve-integrations[templates]'") from error

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from kserve_core.jinja_functions import FILTERS, GLOBALS, METHODS, REPLACED
from kserve_core.jinja_limits import budget, limited, passed, too_large, weigh

_FAILURES = (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
_SIZED = (str, bytes, list, tuple)


def _step() -> str:
    budget().step()
    return ""


def _slice(value: Any, start: Any, stop: Any, step: Any) -> Any:
    if isinstance(value, Undefined):
        value = ""
    budget().make(len(value))
    return value[start:stop:step]


def _concat(*values: Any) -> str:
    budget().make(sum(weigh(value) for value in values))
    return "".join(map(str, values))


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**", "%", "+"})
    checked_step = staticmethod(_step)
    checked_value = staticmethod(passed)
    checked_slice = staticmethod(_slice)
    checked_concat = staticmethod(_concat)

    @staticmethod
    def concat(parts: Iterable[str]) -> str:
        """Joins what a block or a macro wrote."""
        found = list(parts)
        budget().make(sum(map(len, found)))
        return "".join(found)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """An operator with its cost known beforehand."""
        if operator == "+" and isinstance(left, _SIZED) and isinstance(right, _SIZED):
            budget().make(len(left) + len(right))
        elif operator == "*":
            _check_product(left, right)
        elif operator == "%" and isinstance(left, (str, bytes)):
            msg = "The chat template formats text with '%', which is not allowed here."
            raise ConfigurationError(msg)
        elif operator == "**" and not (
            isinstance(left, (int, float)) and isinstance(right, int) and abs(left) < 2**64 and abs(right) <= 64
        ):
            too_large()
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as Jinja has it
        """A call, if it is one that chat templates need."""
        budget().step()
        if isinstance(__obj, (Macro, Undefined, LoopContext)):
            return super().call(__context, __obj, *args, **kwargs)
        for name in ("_loop_vars", "_block_vars"):  # meant for functions that are passed the context
            kwargs.pop(name, None)
        if __obj in __self._helpers:
            return __obj(*args, **kwargs)
        owner = getattr(__obj, "__self__", None)
        for kind, names in METHODS:
            if isinstance(owner, kind):
                name = str(getattr(__obj, "__name__", ""))
                if name not in names:
                    _not_allowed(f"{kind.__name__}.{name}")
                replaced = REPLACED.get(name)
                if replaced is not None and kind is str:
                    return replaced(owner, *args, **kwargs)
                for argument in args:
                    weigh(argument)
                return passed(__obj(*args, **kwargs))
        if isinstance(owner, LoopContext):
            return __obj(*args, **kwargs)
        return _not_allowed(type(__obj).__name__)

    @property
    def _helpers(self) -> frozenset[Any]:
        return _HELPERS


_HELPERS = frozenset({_step, passed, _slice, _concat, *GLOBALS.values()})


def _check_product(left: Any, right: Any) -> None:
    if isinstance(left, _SIZED) or isinstance(right, _SIZED):
        text, count = (left, right) if isinstance(left, _SIZED) else (right, left)
        if isinstance(count, int) and count > 0:
            budget().make(len(text) * count)
    elif isinstance(left, int) and isinstance(right, int) and max(abs(left), abs(right)) > 2**64:
        too_large()


def _not_allowed(what: str) -> NoReturn:
    msg = f"The chat template calls {what}, which is not allowed here."
    raise ConfigurationError(msg)


def _guarded(function: Any) -> Callable[..., Any]:
    """A filter or test that looks at what it is given and at what it makes."""

    @wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        for argument in args:
            weigh(argument)
        return passed(function(*args, **kwargs))

    return guarded


def _output(value: Any) -> Any:
    """What is written; weighed first, because writing a nested value out may take for ever."""
    if not isinstance(value, str):
        weigh(value)
    return value


class _GenerationBlock(Extension):
    """`{% generation %}`, which marks the model's part for training; here its content is just written."""

    tags = {"generation"}  # noqa: RUF012 - declared so by Jinja

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@lru_cache(maxsize=1)
def _environment() -> _Environment:
    environment = _Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols", _GenerationBlock],
        autoescape=False,
        finalize=_output,
        optimized=False,
    )
    known = environment.filters
    environment.filters = {name: made if callable(made) else _guarded(known[name]) for name, made in FILTERS.items()}
    environment.tests = {name: _guarded(test) for name, test in environment.tests.items()}
    environment.globals = dict(GLOBALS)
    return environment


class _Checked(NodeTransformer):
    """Puts the checks into a template: around what has no hook in Jinja, and into the body of every loop."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - named by the visitor
        self.generic_visit(node)
        return _call("checked_concat", node.nodes, node.lineno)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        none, part = nodes.Const(None), node.arg
        return _call(
            "checked_slice", [node.node, part.start or none, part.stop or none, part.step or none], node.lineno
        )

    def _value(self, node: Any) -> nodes.Node:
        self.generic_visit(node)
        if getattr(node, "ctx", "load") != "load":  # the names on the left of an assignment
            return node  # type: ignore[no-any-return]
        return _call("checked_value", [node], node.lineno)

    visit_List = visit_Tuple = visit_Dict = visit_Compare = _value  # noqa: N815

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.body.insert(0, nodes.Output([_call("checked_step", [], node.lineno)], lineno=node.lineno))
        return node

    def _other_template(self, node: Any) -> NoReturn:
        msg = f"The chat template reads another template in line {node.lineno}, which is not allowed."
        raise ConfigurationError(msg)

    visit_Include = visit_Import = visit_FromImport = visit_Extends = _other_template  # noqa: N815


def _call(name: str, arguments: list[nodes.Expr], line: int) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name), arguments, [], None, None, lineno=line)


@lru_cache(maxsize=32)
def compile_template(source: str) -> Template:
    """Parses a template.

    Raises:
        ConfigurationError: If it does not parse, or reads other templates.
    """
    environment = _environment()
    try:
        with limited():
            tree = environment.parse(source)
            _Checked().visit(tree)
            code = environment.compile(tree)
    except (TemplateError, SyntaxError, RecursionError, MemoryError, ValueError) as error:
        if isinstance(error, ConfigurationError):
            raise
        line = getattr(error, "lineno", None) if isinstance(error, TemplateError) else None
        where = f" in line {line}" if line else ""
        said = str(error)[:300] if isinstance(error, TemplateError) else "it is nested too deeply"
        msg = f"The chat template does not parse{where}: {said}"
        raise ConfigurationError(msg) from None
    return environment.template_class.from_code(environment, code, {**environment.globals})


def render_template(source: str, variables: Mapping[str, Any], *, max_length: int) -> str:
    """Renders a template.

    Raises:
        ConfigurationError: If the template refuses, fails, runs too long or writes more than `max_length` characters.
    """
    template = compile_template(source)
    parts: list[str] = []
    length = 0
    try:
        with limited():
            for part in template.generate(dict(variables)):
                parts.append(part)
                length += len(part)
                if length > max_length:
                    too_large()
    except ConfigurationError:
        raise
    except (
        TemplateError,
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        msg = f"The chat template failed: {type(error).__name__}: {_bounded(error)}"
        raise ConfigurationError(msg, hint="See which messages, in which order, the model's template takes.") from None
    return "".join(parts)


def _bounded(error: Exception) -> str:
    """A template error's own words; one that could quote a message is left out."""
    return str(error)[:200] if isinstance(error, TemplateError) else "a value was not what the template expects."
