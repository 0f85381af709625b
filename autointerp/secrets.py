"""Secrets: the values that nothing may show or store, and the one place that masks them.

A secret is known from the moment it is read (`hide`). After that it is masked in every form in
which it is sent or quoted: as it is, percent-encoded, escaped for JSON or HTML, and in base64,
alone or behind a user's name. What a server says is masked as it comes in
(`llm/wire/client.py`); what is printed, logged, raised or stored is masked on its way out, since a
file can quote a key too.
"""

import base64
import html
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO, cast
from urllib.parse import unquote, urlsplit

SHOWN = "[key]"
_MIN_LENGTH = 7  # "none", "EMPTY" and "ollama" are words that a message may hold
# Variables that hold a key by their name. Those that settings name are hidden when they are read.
_KEY_VARIABLE = re.compile(r"(API_?KEY|^HF_TOKEN|^HUGGING_FACE_HUB_TOKEN)$", re.IGNORECASE)
_PROXY_VARIABLE = re.compile(r"_PROXY$", re.IGNORECASE)
_ALPHANUMERIC = re.compile(r"[A-Za-z0-9]+")
_BASE64_END = "[A-Za-z0-9+/_-]?={0,2}"  # has what is left of the last character
_URL_SAFE = {"+": "-", "/": "_"}

# Each form with a part of it that no encoding changes: most texts do not have even that.
_Form = tuple[str, "re.Pattern[str]"]
_forms: dict[str, list[_Form]] = {}


def hide(value: str) -> None:
    """From now on the value is masked. Values of fewer than seven characters are not secrets."""
    if len(value) >= _MIN_LENGTH and value not in _forms:
        _forms[value] = [_form(_spelled(value), value)] + [
            _form(_spelled(core, _URL_SAFE) + _BASE64_END, core) for core in _base64_cores(value)
        ]


def hide_environment(environment: Mapping[str, str] = os.environ) -> None:
    """Hide the keys that the environment holds by name, and the passwords of its proxies."""
    for name, value in environment.items():
        if _KEY_VARIABLE.search(name):
            hide(value.strip())
        elif _PROXY_VARIABLE.search(name):
            with_password = urlsplit(value).password
            hide(unquote(with_password or ""))


def masked(text: str) -> str:
    """The text with `[key]` in the place of every secret."""
    # A copy, since other threads may hide more; the longest first, of which others may be parts.
    for value in sorted(_forms, key=len, reverse=True):
        for unchanged, pattern in _forms[value]:
            if unchanged in text:
                text = pattern.sub(SHOWN, text)
    return text


def masked_bytes(raw: bytes) -> bytes:
    """As `masked`, of bytes in any encoding that has ASCII in it."""
    return masked(raw.decode("latin-1")).encode("latin-1")


def masked_value(value: Any) -> Any:
    """The value with every text in its lists and mappings masked."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, bytes):
        return masked_bytes(value)
    if isinstance(value, Mapping):
        return {masked_value(key): masked_value(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [masked_value(member) for member in value]
    return value


@contextmanager
def masked_errors() -> Iterator[None]:
    """Errors that leave the block, and those that led to them, have lost the secrets they quote."""
    try:
        yield
    except BaseException as error:
        _mask_error(error)
        raise


def _mask_error(error: BaseException) -> None:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.args = tuple(_masked_argument(argument) for argument in one.args)
        for name in ("message", "body", "__notes__"):  # as the openai package's errors have them
            if isinstance(quoted := getattr(one, name, None), str | bytes | list | dict):
                setattr(one, name, masked_value(quoted))
        waiting += [one.__cause__, one.__context__]


def _masked_argument(argument: Any) -> Any:
    return masked_value(argument) if isinstance(argument, str | bytes) else argument


class MaskedStream:
    """A text stream that masks what is written to it; a traceback goes through it as well."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(masked(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def masked_stream(stream: TextIO) -> TextIO:
    return stream if isinstance(stream, MaskedStream) else cast(TextIO, MaskedStream(stream))


def _form(pattern: str, text: str) -> _Form:
    unchanged = max(_ALPHANUMERIC.findall(text), key=len, default="")
    return unchanged, re.compile(pattern)


def _spelled(text: str, others: Mapping[str, str] | None = None) -> str:
    """A pattern of the text in all spellings; `others` may stand for its characters."""
    return "".join(_spellings(character, (others or {}).get(character, "")) for character in text)


def _spellings(character: str, other: str) -> str:
    """A pattern of one character: letters and digits are spelled alike everywhere."""
    if character.isascii() and character.isalnum():
        return character
    named = re.escape(html.escape(character))
    ways = [*map(re.escape, character + other), named]
    # Escapes may have been escaped once more: %252B, \\u002b, \\\".
    ways += ["%(?:25)*" + "%(?:25)*".join(f"{byte:02x}" for byte in character.encode())]
    if ord(character) < 0x10000:
        ways.append(rf"\\+u{ord(character):04x}")
    ways += [rf"\\+{re.escape(character)}", f"&#0*{ord(character)};", f"&#x0*{ord(character):x};"]
    return f"(?i:{'|'.join(sorted(ways, key=len, reverse=True))})"


def _base64_cores(value: str) -> Iterator[str]:
    """What base64 of the value has in common whatever stands before it, and after it."""
    for before in range(3):
        raw = b"\0" * before + value.encode()
        encoded = base64.b64encode(raw).decode()
        yield encoded[-(-before * 8 // 6) : len(raw) * 8 // 6]
