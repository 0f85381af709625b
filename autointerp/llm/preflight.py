"""Finding out whether an endpoint will answer, before anything is spent."""

import asyncio
import json

import httpx
import openai

from autointerp.errors import UserError
from autointerp.llm.client import ChatClient, certificates
from autointerp.llm.dialect import Dialect
from autointerp.llm.errors import UnreadableReply, classify, server_message
from autointerp.llm.reply import read_reply
from autointerp.llm.request import ChatRequest
from autointerp.secrets import hide, masked

_LISTED = 5  # model names quoted in an error
_CHECK_URL = "check the base URL, most end in /v1"


async def preflight(base_url: str, api_key: str, model: str, *, timeout_s: float) -> None:
    """Find out whether the endpoint will answer, before anything is spent.

    Raises UserError with the server's own words where it is unreachable, refuses the key or does
    not know the model.
    """
    hide(api_key)
    # The HTTP library's own error would print the key.
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise UserError(
            f"the key for {base_url} holds a space, a line break or a character that is not "
            "ASCII: check the environment variable it comes from"
        )
    url = base_url.rstrip("/") + "/models"
    try:
        async with (
            asyncio.timeout(timeout_s),
            httpx.AsyncClient(timeout=timeout_s, verify=certificates()) as client,
        ):
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
    request = ChatRequest(model, ({"role": "user", "content": "Hi"},), max_tokens=1)
    client = ChatClient(base_url, api_key, timeout_s=timeout_s, max_connections=1)
    try:
        read_reply((await client.send(Dialect().body(request))).raw)
    except UnreadableReply as error:
        raise UserError(
            f"endpoint {base_url} does not answer with chat completions ({error}): {_CHECK_URL}"
        ) from None
    except (openai.APIError, TimeoutError) as error:
        decision = classify(error)
        # Too many requests for the moment is no reason not to begin, nor is a parameter.
        if decision.kind != "rate_limit" and decision.action != "adapt":
            names = ", ".join(listed[:_LISTED])
            offers = f" (it offers {names}{' …' if len(listed) > _LISTED else ''})" if names else ""
            hint = "" if listed or decision.kind != "status_404" else f"; {_CHECK_URL}"
            raise UserError(
                f"endpoint {base_url} does not serve {model!r}: {decision.message}{offers}{hint}"
            ) from None
    finally:
        await client.close()


def _json(response: httpx.Response) -> object:
    text = masked(response.text)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text[:300]


def _model_names(body: object) -> list[str]:
    entries = body.get("data") if isinstance(body, dict) else None
    if not isinstance(entries, list):
        return []
    return [str(e["id"]) for e in entries if isinstance(e, dict) and "id" in e]
