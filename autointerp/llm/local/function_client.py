"""A Python function in a language model's place: it takes messages and returns text."""

import asyncio
import functools
import hashlib
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from autointerp.errors import EndpointError, InputError
from autointerp.held import name_held
from autointerp.llm.local.completions import Completed, Seeds, envelope, read_body
from autointerp.llm.local.local_client import LOCAL
from autointerp.llm.wire.client import RawReply

Messages = Sequence[Mapping[str, str]]
ChatFunction = (
    Callable[[list[dict[str, str]]], str] | Callable[[list[dict[str, str]]], Awaitable[str]]
)


@dataclass(frozen=True)
class NamedFunction:
    """`name` changes when the function's own code does, or a text or number that it refers to, so
    that its replies are asked for anew."""

    name: str
    call: Callable[[list[dict[str, str]]], Any]


def named_function(function: Any) -> NamedFunction:
    """Raises InputError where it cannot be called."""
    if not callable(function):
        raise InputError(
            f"a {type(function).__name__} is not a labeler or judge: pass a function that takes "
            "messages and returns text"
        )
    label = getattr(function, "__name__", type(function).__name__).strip("<>")
    return NamedFunction(name_held(label, _code_digest(function)), function)


def _code_digest(function: Any) -> str:
    if isinstance(function, functools.partial):
        given = repr((function.args, sorted(function.keywords.items())))
        return hashlib.sha256(f"{_code_digest(function.func)} {given}".encode()).hexdigest()
    whole = f"{_source(function)} {_referred_to(function)}"
    return hashlib.sha256(whole.encode()).hexdigest()


def _source(function: Any) -> str:
    for code in (function, type(function)):  # of an object that can be called, its class
        try:
            return inspect.getsource(code)
        except (OSError, TypeError):
            continue
    code = getattr(function, "__code__", None)
    return repr(code.co_code) if code else type(function).__qualname__


def _referred_to(function: Any) -> list[tuple[str, Any]]:
    """Such as the name of a model that another function puts into it."""
    try:
        found = inspect.getclosurevars(function)
    except TypeError:  # not a plain function
        return []
    named = {**found.globals, **found.nonlocals}
    return sorted((n, v) for n, v in named.items() if isinstance(v, str | int | float))


class FunctionClient:
    """Sends requests to the function: a plain one in threads, so that several are under way."""

    def __init__(self, function: NamedFunction, threads: int) -> None:
        self.base_url = LOCAL
        self._call, self._seeds = function.call, Seeds()
        self._name = function.name
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="labeler")

    async def send(self, body: bytes) -> RawReply:
        """Raises EndpointError where the function fails, or returns no text."""
        asked = read_body(body, self._seeds)
        messages = [dict(message) for message in asked.messages]
        try:
            text = await self._answer(messages)
        except Exception as error:
            said = next(iter(str(error).splitlines()), "")
            raise EndpointError(f"{self._name} failed: {type(error).__name__}: {said}") from error
        if not isinstance(text, str):
            raise EndpointError(f"{self._name} returned a {type(text).__name__}, and not text")
        return RawReply(envelope(asked, Completed(text, (), (), cut=False), {}), {})

    async def _answer(self, messages: list[dict[str, str]]) -> Any:
        if inspect.iscoroutinefunction(self._call):
            return await self._call(messages)
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, self._call, messages)
        # An object whose call is asynchronous is not known as such before.
        return await found if inspect.isawaitable(found) else found

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
