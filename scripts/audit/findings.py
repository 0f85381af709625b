"""What an experiment found: a table, and the claims that must hold of it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """`value` must lie within `low` and `high`, both inclusive."""

    what: str
    value: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """False for NaN as well: what could not be computed was not shown."""
        return self.low <= self.value <= self.high

    def line(self) -> str:
        outcome = "holds" if self.holds else "FAILS"
        return f"{outcome}: {self.what}: {self.value:.3g} in [{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True, slots=True)
class Findings:
    """One table of an experiment; `about` says what was done, in a sentence or two."""

    title: str
    about: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[object, ...]]
    claims: Sequence[Claim] = ()

    def markdown(self) -> str:
        lines = [f"## {self.title}", "", self.about, ""]
        lines.append("| " + " | ".join(self.columns) + " |")
        lines.append("|" + "---|" * len(self.columns))
        lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in self.rows]
        if self.claims:
            lines += ["", *(f"- {claim.line()}" for claim in self.claims)]
        return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "–" if value != value else f"{value:.3f}"
    return str(value)
