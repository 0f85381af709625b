"""A run that is there, to be looked at from Python."""

import io
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console, RenderableType

from autointerp.activations.given_evidence import feature_number
from autointerp.errors import NotDoneError
from autointerp.evidence.store import EvidenceStore
from autointerp.report.overview import Cost, Overview, overview
from autointerp.report.terminal import feature_panel, summary
from autointerp.runs.directory import Run, find_run
from autointerp.tables.read import load_labels, load_scores, load_windows

_WIDTH = 110
_HTML = '<pre style="line-height:1.3;white-space:pre-wrap">{code}</pre>'


class FeatureResult:
    """One feature: `row` is its row of the label table, None before there is one."""

    def __init__(self, run: Run, feature: int) -> None:
        self._run = run
        self.feature = feature
        self.windows: pd.DataFrame = load_windows(run.path, feature)
        self.row: dict[str, Any] | None = None
        if run.labels.is_file():
            labels = load_labels(run.path)
            rows = labels[labels["feature"] == feature].to_dict("records")
            self.row = {str(name): value for name, value in rows[0].items()} if rows else None

    @property
    def label(self) -> str | None:
        """None where it has none, or none yet."""
        return self._text("label")

    @property
    def status(self) -> str:
        return self._text("status") or "collected"

    def _text(self, name: str) -> str | None:
        value = None if self.row is None else self.row[name]
        return value if isinstance(value, str) else None

    def _panel(self, *, shaded: bool) -> RenderableType:
        evidence = next(
            iter(EvidenceStore(self._run.windows, self._run.features).read([self.feature]))
        )
        return feature_panel(self._run, evidence, self.row, shaded=shaded)

    def __repr__(self) -> str:
        return f"Feature {self.feature}: {self.label or f'({self.status})'}"

    def __str__(self) -> str:
        return _as_text(self._panel(shaded=False))

    def _repr_html_(self) -> str:
        return _as_html(self._panel(shaded=True))


class RunResults:
    """A run's tables as they are on disk now. Public as `autointerp.Run`.

    What the run has not come to yet raises NotDoneError.
    """

    def __init__(self, path: str | Path) -> None:
        self._run = find_run(str(path))

    @property
    def path(self) -> Path:
        return self._run.path

    def labels(self, *, edits: bool = False) -> pd.DataFrame:
        """One row a feature; with `edits`, labels by people stand in for the run's own."""
        return load_labels(self.path, edits=edits)

    def scores(self) -> pd.DataFrame:
        """One row a feature, scorer and metric."""
        return load_scores(self.path)

    def windows(self, feature: int) -> pd.DataFrame:
        """The feature's windows; token ids and activations are arrays."""
        return load_windows(self.path, feature_number(feature))

    def feature(self, feature: int) -> FeatureResult:
        """Label, scores and windows of one feature, to look at."""
        return FeatureResult(self._run, feature_number(feature))

    @property
    def summary(self) -> Overview:
        """What the run came to, in numbers."""
        return overview(self._run)

    @property
    def cost(self) -> Cost:
        """Tokens and dollars that labels and scores took."""
        found = self.summary.cost
        if found is None:
            raise NotDoneError(f"the run in {self.path} has no labels yet")
        return found

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that the run was made with, as its record has them."""
        return self._run.settings().shown()

    @property
    def stages(self) -> list[str]:
        """Those that are finished."""
        return [name for name, _ in self._run.stages().done()]

    def _shown(self) -> RenderableType:
        if self._run.labels.is_file():
            return summary(self._run)
        return f"{self.path}: {', '.join(self.stages) or 'nothing'} done, no labels yet"

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}: {', '.join(self.stages) or 'nothing'} done)"

    def __str__(self) -> str:
        return _as_text(self._shown())

    def _repr_html_(self) -> str:
        return _as_html(self._shown())


def _console() -> Console:
    return Console(
        record=True, file=io.StringIO(), width=_WIDTH, force_jupyter=False, highlight=False
    )


def _as_text(shown: RenderableType) -> str:
    console = _console()
    console.print(shown)
    return console.export_text()


def _as_html(shown: RenderableType) -> str:
    console = _console()
    console.print(shown)
    return console.export_html(inline_styles=True, code_format=_HTML)
