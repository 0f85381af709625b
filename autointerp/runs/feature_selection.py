"""Which features of a coder a run is about."""

import random
import re
from bisect import bisect_left
from pathlib import Path

from autointerp.errors import ConfigurationError

_PART = re.compile(r"([0-9]{1,12})(?:-([0-9]{1,12}))?")


def select_features(text: str, width: int, seed: int) -> list[int]:
    """Feature ids, ascending, from `all`, `0-99,512`, `@ids.txt` or `random:500`.

    Ranges include both ends; a file holds ids or ranges separated by commas or white space;
    `random:N` draws N distinct features with the run's seed. Raises AutointerpError for text that
    cannot be read and for ids beyond the coder's `width`.
    """
    text = text.strip()
    if text == "all":
        return list(range(width))
    if text.startswith("random:"):
        count = text.removeprefix("random:")
        if not re.fullmatch("[0-9]{1,12}", count) or not 0 < int(count) <= width:
            raise ConfigurationError(
                f"features {text!r}: in random:N, N is a whole number from 1 to {width}"
            )
        return sorted(random.Random(seed).sample(range(width), int(count)))
    chosen: set[int] = set()
    for part in ranges_of(text):
        if part[-1] >= width:
            raise ConfigurationError(
                f"features {text!r}: feature {part[-1]} does not exist; the SAE has features 0 to "
                f"{width - 1}"
            )
        chosen.update(part)
    return sorted(chosen)


def select_among(text: str, collected: list[int], seed: int) -> tuple[list[int], int]:
    """Those of the `collected` features (ascending) that `text` selects, and how many more it
    names. `random:N` draws from the collected ones. Raises AutointerpError.
    """
    text = text.strip()
    if text == "all":
        return collected, 0
    if text.startswith("random:"):
        return [collected[i] for i in select_features(text, len(collected), seed)], 0
    chosen: set[int] = set()
    named = 0
    end = -1
    for part in sorted(ranges_of(text), key=lambda r: r.start):
        chosen.update(
            collected[bisect_left(collected, part.start) : bisect_left(collected, part.stop)]
        )
        # Ranges may overlap: each feature is named once.
        named += max(0, part.stop - max(part.start, end))
        end = max(end, part.stop)
    return sorted(chosen), named - len(chosen)


def ranges_of(text: str) -> list[range]:
    """The ids and ranges that `0-99,512` or `@ids.txt` names. Raises AutointerpError."""
    source = text
    if text.startswith("@"):
        path = Path(text[1:])
        if not path.is_file():
            raise ConfigurationError(f"features {text!r}: no such file: {path}")
        try:
            source, text = str(path), path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise ConfigurationError(f"features {text!r}: {path} is not a text file") from None
    found = []
    for part in re.split(r"[,\s]+", text.strip()):
        match = _PART.fullmatch(part)
        if match is None:
            raise ConfigurationError(
                f"features {source!r}: {part!r} is neither an id nor a range; "
                "write all, 0-99,512, @ids.txt or random:500"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ConfigurationError(f"features {source!r}: the range {part} ends before it begins")
        found.append(range(first, last + 1))
    return found
