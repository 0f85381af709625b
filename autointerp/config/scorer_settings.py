"""What a scorer's own settings are to the others: `windows` of Fuzzing is `fuzzing_windows`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from autointerp.config.section import Section, setting
from autointerp.registry import Entry, Registry


class ScorerSettings(Section):
    """A scorer adds its own, and gives `windows` its default and what it says.

    What it adds is part of what scores depend on, but for `KNOWN_OTHERWISE`: those whose changes
    show in something else that scores depend on, as a template or a model's files.
    """

    SECTION: ClassVar[str] = "scoring"
    KNOWN_OTHERWISE: ClassVar[tuple[str, ...]] = ()

    windows: int = setting(20, "Activating windows to judge.", ge=1)

    def chosen_mode(self) -> str:
        """By which of its ways a scorer asks; auto: the best that the endpoint allows."""
        return "auto"

    def most_windows(self) -> int:
        """How many activating windows are asked for."""
        return self.windows

    def asks_most(self) -> str:
        """The setting that asks for the most of them."""
        return "windows"

    def problems_with(self, name: str, score_windows: int) -> Iterator[str]:
        """What is wrong where so many windows of a kind are kept for scoring, a line each."""
        if self.most_windows() > score_windows:
            yield (
                f"{name}_{self.asks_most()} needs {self.most_windows()} activating windows for "
                f"scoring, score_windows keeps {score_windows}: "
                f"--score-windows {self.most_windows()}"
            )

    def identity(self) -> Any:
        """What scores depend on: how many windows, and whatever else differs from its default."""
        more = {
            name: getattr(self, name)
            for name, field in sorted(type(self).model_fields.items())
            if name not in ("windows", *self.KNOWN_OTHERWISE)
            and getattr(self, name) != field.default
        }
        return {"windows": self.windows} | more if more else self.windows


@dataclass(frozen=True, slots=True)
class PeerProtocol:
    """Another tool's way of scoring, which a scorer follows (docs/protocols.md).

    `items`: what one request asks about there, `window_length`: the tokens of its windows.
    `pooled`: its published figure is of all features' windows together, not a mean over features.
    """

    name: str
    items: int
    window_length: int
    pooled: bool = False


class ConfiguredScorer(Entry, Protocol):
    """What settings know of a scorer."""

    @property
    def settings(self) -> type[ScorerSettings]: ...
    @property
    def protocol(self) -> PeerProtocol | None: ...


CONFIGURED: Registry[ConfiguredScorer] = Registry("autointerp.scorers")


def scorers_by_protocol() -> dict[str, list[str]]:
    """Protocol → the scorers that follow it, both in order."""
    found: dict[str, list[str]] = {}
    for name, scorer in CONFIGURED.items():
        if scorer.protocol is not None:
            found.setdefault(scorer.protocol.name, []).append(name)
    return found
