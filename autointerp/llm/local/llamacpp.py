"""llama.cpp in this process in an endpoint's place, by xllamacpp: for .gguf files, fast on CPUs."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from autointerp.errors import InputError
from autointerp.llm.local.completions import Seeds, bad_request, read_body
from autointerp.llm.local.constrained import LAYOUT, grammar_of
from autointerp.llm.local.local_client import LOCAL
from autointerp.llm.wire.call_errors import UnreadableReply
from autointerp.llm.wire.client import RawReply
from autointerp.llm.wire.event_stream import join_chunks
from autointerp.llm.wire.request import as_json

PACKAGE = "xllamacpp"
_CONTEXT = 8192  # tokens of each slot


def open_server(path: Path, device: torch.device, slots: int) -> Any:
    """llama.cpp's server for this process alone.

    Raises InputError where it cannot load the file.
    """
    import xllamacpp

    wanted = xllamacpp.CommonParams()
    wanted.model.path = str(path)
    wanted.n_parallel, wanted.n_ctx = slots, slots * _CONTEXT
    wanted.n_gpu_layers = 0 if device.type == "cpu" else -1
    wanted.cpuparams.n_threads = torch.get_num_threads()
    wanted.verbosity = 0
    # Its parsers fail replies with broken characters, where a schema is given as such.
    wanted.force_pure_content_parser = True
    # It listens as well, which cannot be turned off: on this machine, and with a key nobody has.
    wanted.hostnames, wanted.port = ["127.0.0.1"], 0
    wanted.api_keys = [secrets.token_urlsafe(32)]
    try:
        return xllamacpp.Server(wanted)
    except RuntimeError:
        raise InputError(
            f"{path} cannot be loaded: llama.cpp does not support the file, or there "
            "is not enough memory for it"
        ) from None


def _grammar(schema: Mapping[str, Any]) -> str:
    """In the words of llguidance, which is in xllamacpp's wheels. Raises UnreadableReply."""
    import xllamacpp

    grammar_of(schema)  # llama.cpp passes over what it does not understand
    grammar: str = xllamacpp.json_schema_to_grammar(dict(schema) | {"x-guidance": LAYOUT})
    return grammar


class LlamaClient:
    """`server` answers up to `slots` requests at once, and batches them by itself."""

    def __init__(self, server: Any, slots: int) -> None:
        self.base_url = LOCAL
        self._server = server
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="llama.cpp")
        self._seeds = Seeds()
        self._is_closed = False

    async def send(self, body: bytes) -> RawReply:
        """Raises UnreadableReply as an endpoint would reject it."""
        asked = read_body(body, self._seeds)
        if asked.prompt_logprobs is not None:
            raise bad_request("prompt_logprobs is not supported by llama.cpp")
        loop = asyncio.get_running_loop()
        wanted = json.loads(body) | {"stream": True, "stream_options": {"include_usage": True}}
        wanted["seed"] = asked.seed % (1 << 32)
        if asked.schema is not None:
            del wanted["response_format"]
            wanted["grammar"] = _grammar(asked.schema)
        reply = await loop.run_in_executor(self._threads, self._ask, as_json(wanted).decode())
        return RawReply(as_json(reply | {"model": asked.model}), {})

    def _ask(self, body: str) -> dict[str, Any]:
        chunks: list[str] = []

        def take(chunk: str) -> bool:
            chunks.append(chunk)
            return self._is_closed  # which ends the reply

        try:
            self._server.handle_chat_completions(body, take)
        except ValueError as error:
            raise bad_request(str(error)) from None
        except RuntimeError as error:
            raise UnreadableReply(str(error), "500") from None
        reply = join_chunks("".join(f"data: {chunk}\n\n" for chunk in chunks))
        failure = reply.get("error")
        if isinstance(failure, dict):
            code, message = str(failure.get("code", "")), str(failure.get("message", ""))
            raise UnreadableReply(message, code)
        return reply

    async def close(self) -> None:
        self._is_closed = True
        with contextlib.suppress(RuntimeError):
            self._threads.shutdown(wait=True, cancel_futures=True)
