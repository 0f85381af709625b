"""Which features of a coder a run is about."""

import random
import re
from pathlib import Path

from autointerp.errors import UserError

_PART = re.compile(r"([0-9]{1,12})(?:-([0-9]{1,12}))?")


def select_features(text: str, width: int, seed: int) -> list[int]:
    """Feature ids, ascending, from `all`, `0-99,512`, `@ids.txt` or `random:500`.

    Ranges include both ends; a file holds ids or ranges separated by commas or white space;
    `random:N` draws N distinct features with the run's seed. Raises UserError for text that cannot
    be read and for ids beyond the coder's `width`.
    """
    text = text.strip()
    if text == "all":
        return list(range(width))
    if text.startswith("random:"):
        count = text.removeprefix("random:")
        if not re.fullmatch("[0-9]{1,12}", count) or not 0 < int(count) <= width:
            raise UserError(
                f"features {text!r}: random:N takes N from 1 to the coder's width, {width}"
            )
        return sorted(random.Random(seed).sample(range(width), int(count)))
    if text.startswith("@"):
        path = Path(text[1:])
        if not path.is_file():
            raise UserError(f"features {text!r}: there is no file {path}")
        try:
            source, text = str(path), path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise UserError(f"features {text!r}: {path} is no text file") from None
    else:
        source = text
    chosen: set[int] = set()
    for part in re.split(r"[,\s]+", text.strip()):
        match = _PART.fullmatch(part)
        if match is None:
            raise UserError(
                f"features {source!r}: {part!r} is neither an id nor a range; "
                "write all, 0-99,512, @ids.txt or random:500"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UserError(f"features {source!r}: the range {part} ends before it begins")
        if last >= width:
            raise UserError(
                f"features {source!r}: there is no feature {last}, "
                f"the coder has features 0 to {width - 1}"
            )
        chosen.update(range(first, last + 1))
    return sorted(chosen)
