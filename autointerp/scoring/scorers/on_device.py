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
    """The model's name with what it is: the commit of the hub, or a hash of the file or files.

    Of large files the beginning, the end and the size are hashed. A model of the hub that is not
    on this machine yet has its name alone.
    """
    place = Path(name).expanduser()
    if place.is_dir():
        files = sorted(p for p in place.rglob("*") if p.is_file())
        named = ((path.relative_to(place).as_posix(), path) for path in files)
        return f"{place.resolve().name}@{_digest(named)}"
    if place.is_file():
        return f"{place.stem}@{_digest([('', place)])}"
    repository, file = (name, "config.json")
    if name.endswith(".gguf"):
        repository, _, file = name.rpartition("/")
    try:
        cached = try_to_load_from_cache(repository, file)
    except ValueError:  # neither a folder nor an id: opening it says so
        return name
    return f"{name}@{Path(cached).parent.name[:12]}" if isinstance(cached, str) else name


def _digest(files: Iterable[tuple[str, Path]]) -> str:
    digest = hashlib.sha256()
    for name, path in files:
        size = path.stat().st_size
        digest.update(f"{name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_SAMPLED_BYTES))
            file.seek(max(0, size - _SAMPLED_BYTES))
            digest.update(file.read())
    return digest.hexdigest()[:12]


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
