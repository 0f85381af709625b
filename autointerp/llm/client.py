"""One endpoint: sending bodies as they are, and finding out beforehand whether it will answer."""

import asyncio
import importlib
from typing import Any

import httpx
import openai

from autointerp.errors import UserError
from autointerp.llm.errors import UnreadableReply, classify, server_message
from autointerp.llm.reply import read_reply
from autointerp.llm.request import PATH, chat_request

# openai 2 stands on httpx, openai 3 on httpx2: its own defaults say which, and mixing them fails.
_Limits: Any = type(openai.DEFAULT_CONNECTION_LIMITS)
_Timeout: Any = type(openai.DEFAULT_TIMEOUT)
_Response: Any = importlib.import_module(_Limits.__module__.partition(".")[0]).Response

_CONNECT_S = 10.0
_LISTED = 5  # model names quoted in an error


class ChatClient:
    """Sends chat requests to one OpenAI-compatible endpoint. It never retries: the pool does."""

    def __init__(
        self, base_url: str, api_key: str, *, timeout_s: float, max_connections: int
    ) -> None:
        self.base_url = base_url
        self._timeout_s = timeout_s
        limits = _Limits(
            max_connections=max_connections,
            max_keepalive_connections=min(max_connections, 100),
            keepalive_expiry=30.0,
        )
        # No read timeout: the total below ends a reply that drips as well as one that hangs.
        timeout = _Timeout(timeout_s, connect=min(_CONNECT_S, timeout_s), read=None)
        self._sdk = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(limits=limits, timeout=timeout),
        )

    async def send(self, body: bytes) -> bytes:
        """The raw body of a reply of good status.

        Raises openai.APIError for any other outcome and TimeoutError when the whole took too long.
        """
        async with asyncio.timeout(self._timeout_s):
            response = await self._sdk.post(
                PATH,
                cast_to=_Response,
                content=body,
                options={"headers": {"Content-Type": "application/json"}},
            )
        raw: bytes = response.content
        return raw

    async def close(self) -> None:
        await self._sdk.close()


async def preflight(base_url: str, api_key: str, model: str, *, timeout_s: float) -> None:
    """Find out whether the endpoint will answer, before anything is spent.

    Raises UserError with the server's own words where it is unreachable, refuses the key or does
    not know the model.
    """
    # The HTTP library's own error would print the key.
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise UserError(
            f"the key for {base_url} holds a space, a line break or a character that is not "
            "ASCII: check the environment variable it comes from"
        )
    url = base_url.rstrip("/") + "/models"
    try:
        async with asyncio.timeout(timeout_s), httpx.AsyncClient(timeout=timeout_s) as client:
            response = await client.get(url, headers={"Authorization": f"Bearer {api_key}"})
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        reason = str(error) or f"no reply within {timeout_s:g} s"
        raise UserError(f"endpoint {base_url} cannot be reached: {reason}") from None
    body = _json(response)
    if response.status_code in (401, 403):
        message = server_message(body)[0] or f"status {response.status_code}"
        raise UserError(f"endpoint {base_url} refuses the key: {message}")
    listed = _model_names(body) if response.is_success else []
    if model not in listed:
        # Routers take names that they do not list: ask for one token, which costs next to nothing.
        await _probe(base_url, api_key, model, listed, timeout_s)


async def _probe(
    base_url: str, api_key: str, model: str, listed: list[str], timeout_s: float
) -> None:
    request = chat_request(
        model=model,
        messages=[{"role": "user", "content": "Hi"}],
        temperature=None,
        max_tokens=1,
        response_format="none",
    )
    client = ChatClient(base_url, api_key, timeout_s=timeout_s, max_connections=1)
    try:
        read_reply(await client.send(request.body))
    except UnreadableReply as error:
        raise UserError(
            f"endpoint {base_url} does not answer with chat completions ({error}): check the "
            "base URL, most end in /v1"
        ) from None
    except (openai.APIError, TimeoutError) as error:
        decision = classify(error)
        # Too many requests for the moment is no reason not to begin.
        if decision.kind != "rate_limit":
            names = ", ".join(listed[:_LISTED])
            offers = f" (it offers {names}{' …' if len(listed) > _LISTED else ''})" if names else ""
            raise UserError(
                f"endpoint {base_url} does not serve {model!r}: {decision.message}{offers}"
            ) from None
    finally:
        await client.close()


def _json(response: httpx.Response) -> object:
    try:
        return response.json()
    except ValueError:
        return response.text[:300]


def _model_names(body: object) -> list[str]:
    entries = body.get("data") if isinstance(body, dict) else None
    if not isinstance(entries, list):
        return []
    return [str(e["id"]) for e in entries if isinstance(e, dict) and "id" in e]
