"""What judges on this machine share: which model they are, and what of windows they remember."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from huggingface_hub import try_to_load_from_cache

from autointerp.evidence.window import Window
from autointerp.plain_text import harmless

_SAMPLED_BYTES = 1 << 20


def identity(name: str) -> str:
    """The model's name with what it is: the commit of the hub, or a hash of the folder's files.

    Of large files the beginning, the end and the size are hashed. A model of the hub that is not
    on this machine yet has its name alone.
    """
    folder = Path(name)
    if folder.is_dir():
        digest = hashlib.sha256()
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            size = path.stat().st_size
            digest.update(f"{path.relative_to(folder).as_posix()} {size}\n".encode())
            with path.open("rb") as file:
                digest.update(file.read(_SAMPLED_BYTES))
                file.seek(max(0, size - _SAMPLED_BYTES))
                digest.update(file.read())
        return f"{folder.resolve().name}@{digest.hexdigest()[:12]}"
    try:
        cached = try_to_load_from_cache(name, "config.json")
    except ValueError:  # neither a folder nor an id: opening it says so
        return name
    return f"{name}@{Path(cached).parent.name[:12]}" if isinstance(cached, str) else name


def shown(window: Window) -> str:
    """The window's text as it stands in the corpus, without control marks of chat models.

    Line breaks stay: these models know text as it is written, and none of them follows it.
    """
    return harmless(window.text)


class Remembered:
    """What a model makes of windows, worked out once for each text.

    The corpus's windows, which features share, are remembered; a feature's own are let go.
    """

    def __init__(self, compute: Callable[[list[str]], Iterable[np.ndarray]]) -> None:
        self._compute = compute
        self._kept: dict[str, np.ndarray] = {}

    def of(self, windows: Iterable[Window]) -> dict[str, np.ndarray]:
        """Text, as `shown`, → what the model makes of it."""
        texts: dict[str, bool] = {}
        for window in windows:
            text = shown(window)
            texts[text] = texts.get(text, False) or window.kind == "corpus"
        new = [text for text in texts if text not in self._kept]
        made = dict(zip(new, self._compute(new), strict=True)) if new else {}
        found = {text: made[text] if text in made else self._kept[text] for text in texts}
        self._kept |= {text: made[text] for text in new if texts[text]}
        return found
