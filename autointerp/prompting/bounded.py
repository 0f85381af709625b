"""Renders templates within limits on loops, calls and the length of texts.

A template is data, and rendering it is running it: two nested loops are enough to run for ever.
Steps are counted rather than seconds, so that a template ends or fails alike on every machine.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jinja2 import StrictUndefined, nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_STEPS = 1_000_000  # turns of loops and calls in one rendering: a second or so
MAX_CHARACTERS = 10_000_000  # of a prompt, or of any value made on the way
_MAX_EXPONENT = 64
_COUNTED, _SIZED = "autointerp_counted", "autointerp_sized"
_steps: ContextVar[list[int]] = ContextVar("steps")  # taken in the rendering under way


class Unbounded(Exception):
    """The template does not end, or its text does not."""


@contextmanager
def bounded() -> Iterator[None]:
    """A block that renders one template."""
    token = _steps.set([0])
    try:
        yield
    finally:
        _steps.reset(token)


def joined(pieces: Iterable[str]) -> str:
    """The text that a template's block renders to. Raises Unbounded."""
    found, size = [], 0
    for piece in pieces:
        size += len(piece)
        _check_size(size)
        found.append(piece)
    return "".join(found)


def _step() -> None:
    steps = _steps.get(None)
    if steps is None:
        return
    steps[0] += 1
    if steps[0] > MAX_STEPS:
        raise Unbounded(f"it does not end: its loops and calls take over {MAX_STEPS:,} steps")


def _check_size(size: int) -> None:
    if size > MAX_CHARACTERS:
        raise Unbounded(f"its text is too long: over {MAX_CHARACTERS:,} characters")


def _counted(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        _step()
        yield item


def _sized(value: Any) -> Any:
    if isinstance(value, str | list | tuple):
        _check_size(len(value))
    return value


def _limited(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that counts as a step, is asked for no huge width, and gives nothing too long."""

    @functools.wraps(function)
    def limited(*args: Any, **options: Any) -> Any:
        _step()
        _check_arguments(args, options)
        return _sized(function(*args, **options))

    return limited


def _check_arguments(args: tuple[Any, ...], options: dict[str, Any]) -> None:
    for value in (*args, *options.values()):
        if isinstance(value, int):
            _check_size(value)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Renders within `bounded`, sees its variables and no file, and fails for unknown names."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self) -> None:
        super().__init__(undefined=StrictUndefined, autoescape=False)
        self.filters = {name: _limited(made) for name, made in self.filters.items()}
        self.filters |= {_COUNTED: _counted, _SIZED: _sized}

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _step()
        if operator == "*":
            for text, times in ((left, right), (right, left)):
                if isinstance(text, str | list | tuple) and isinstance(times, int):
                    _check_size(len(text) * times)
        elif operator == "**" and isinstance(right, int) and abs(right) > _MAX_EXPONENT:
            raise Unbounded(
                f"it raises a number to the power {right}; the limit is {_MAX_EXPONENT}"
            )
        return _sized(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **options: Any) -> Any:
        _step()
        _check_arguments(args, options)
        return _sized(super().call(__context, __obj, *args, **options))


class _Limits(NodeTransformer):
    """Has loops counted, and texts measured where neither a filter nor a call makes them."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.iter = _filtered(node.iter, _COUNTED)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, _SIZED)

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.AssignBlock:
        self.generic_visit(node)
        node.filter = _filtered(node.filter, _SIZED)
        return node


def _filtered(node: nodes.Node | None, name: str) -> nodes.Filter:
    lineno = None if node is None else node.lineno
    return nodes.Filter(node, name, [], [], None, None, lineno=lineno)


def limited(tree: nodes.Template) -> nodes.Template:
    """The tree with its limits built in, for `Environment.from_string`."""
    found: nodes.Template = _Limits().visit(tree)
    return found
