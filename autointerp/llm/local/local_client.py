"""A model of this process in an endpoint's place: requests that wait are answered in batches."""

import asyncio
import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from autointerp.errors import AutointerpError, InputError
from autointerp.llm.local.completions import bad_request
from autointerp.llm.local.generation import ChatModel, PreparedPrompt
from autointerp.llm.wire.client import RawReply

LOCAL = "local"  # where an endpoint has its address
_GATHER_S = 0.02  # for which a batch waits for others to come


@dataclass(eq=False, slots=True)
class _Waiting:
    request: PreparedPrompt
    reply: asyncio.Future[bytes]


class LocalClient:
    """`rows`: at most so many requests in a batch.

    A batch is made of the request that has waited longest and those nearest to it in length, as
    many as there is memory for. Where memory runs out all the same, batches are halved from then
    on; a request that does not fit alone is rejected as too long.
    """

    def __init__(
        self, model: ChatModel, rows: int, on_event: Callable[[str], None] = lambda _: None
    ) -> None:
        self.base_url = LOCAL
        self._model, self._rows, self._on_event = model, rows, on_event
        self._waiting: list[_Waiting] = []
        self._coming = 0  # requests that are being made ready
        self._working: asyncio.Task[None] | None = None
        # Tokenizing in the loop's own thread would hold up all others.
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="local-prompts")
        self._answering = ThreadPoolExecutor(1, thread_name_prefix="local-model")

    async def send(self, body: bytes) -> RawReply:
        """Raises UnreadableReply as an endpoint would reject it, InputError where it cannot run."""
        loop = asyncio.get_running_loop()
        self._coming += 1
        try:
            request = await loop.run_in_executor(self._preparing, self._model.prepare, body)
        finally:
            self._coming -= 1
        waiting = _Waiting(request, loop.create_future())
        self._waiting.append(waiting)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        try:
            return RawReply(await waiting.reply, {})
        finally:
            if waiting in self._waiting:  # cancelled
                self._waiting.remove(waiting)

    async def _work(self) -> None:
        while self._waiting:
            await asyncio.sleep(_GATHER_S)
            while self._coming and len(self._waiting) < self._rows:
                await asyncio.sleep(_GATHER_S)
            if not self._waiting:  # all were cancelled meanwhile
                return
            batch = self._next_batch()
            self._waiting = [one for one in self._waiting if one not in batch]
            try:
                await self._answer(batch)
            except Exception as error:
                for one in batch:
                    if not one.reply.done():
                        one.reply.set_exception(_as_one_line(error))

    def _next_batch(self) -> list[_Waiting]:
        oldest = self._waiting[0].request.tokens
        nearest = sorted(self._waiting, key=lambda one: abs(one.request.tokens - oldest))
        batch = nearest[: self._rows]
        longest = max(one.request.tokens for one in batch)
        return batch[: self._model.most_rows(longest)]

    async def _answer(self, batch: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        requests = [one.request for one in batch]
        replies = await loop.run_in_executor(self._answering, self._in_memory, requests)
        if replies is not None:
            for one, reply in zip(batch, replies, strict=True):
                if not one.reply.done():
                    one.reply.set_result(reply)
            return
        if len(batch) > 1:
            self._rows = len(batch) // 2
            self._on_event(f"out of memory: from now on at most {self._rows} requests at a time")
            self._waiting = batch + self._waiting
            return
        tokens = batch[0].request.tokens
        if not batch[0].reply.done():
            message = f"too long for this machine's memory: up to {tokens:,} tokens"
            batch[0].reply.set_exception(bad_request(message))

    def _in_memory(self, requests: list[PreparedPrompt]) -> list[bytes] | None:
        """None where memory ran out."""
        try:
            return self._model.answer(requests)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
        # Outside of the handler, since the error holds on to what was being computed.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None

    async def close(self) -> None:
        """What is being answered ends at its next token."""
        self._waiting.clear()
        self._model.stop()
        if self._working is not None:
            self._working.cancel()
        self._preparing.shutdown(cancel_futures=True)
        self._answering.shutdown(cancel_futures=True)


def _is_out_of_memory(error: Exception) -> bool:
    # On a CPU torch raises a plain RuntimeError.
    said = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "out of memory" in said
        or "not enough memory" in said
    )


def _as_one_line(error: Exception) -> Exception:
    if isinstance(error, AutointerpError):
        return error
    first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return InputError(f"the local model failed: {type(error).__name__}: {first_line}")
