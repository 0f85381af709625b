"""A report: the pages of chosen features in one HTML file that opens from disk."""

import base64
import gzip
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autointerp.progress import track
from autointerp.report.column_list import columns_of
from autointerp.report.exchanges import feature_exchanges
from autointerp.report.feature import FeaturePages
from autointerp.report.overview import overview
from autointerp.report.page import page_html
from autointerp.runs.directory import Run
from autointerp.secrets import masked
from autointerp.storage.files import atomic_path, unwritable
from autointerp.storage.json_values import plain
from autointerp.tables.exports.exported import selected
from autointerp.tables.migrate import open_table

_USUAL = 200  # features with a page, unless others are chosen


def write_report(run: Run, features: str | None, out: Path) -> int:
    """Write the report of the features that `features` selects; returns how many.

    Without `features` they are drawn, 200 at most. The overview is of the whole run. Raises
    AutointerpError where the run has no evidence or no such features, or `out` cannot be written.
    """
    chosen = selected(run, features or "all")
    if features is None and len(chosen) > _USUAL:
        chosen = selected(run, f"random:{_USUAL}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(out) as temporary:
            temporary.touch()  # what cannot be written is known before the work
            html, _ = page_html(_data(run, chosen), title=f"{run.path.resolve().name} – autointerp")
            temporary.write_text(html, encoding="utf-8")
    except OSError as error:
        raise unwritable(out, error) from None
    return len(chosen)


def _data(run: Run, chosen: list[int]) -> dict[str, Any]:
    """What the script's FileSource reads: of each feature its page, packed, and its row."""
    seen = overview(run)
    source = FeaturePages(run)
    rows, pages, asked = [], {}, {}
    with track("report", len(chosen), "features") as progress:
        for feature in chosen:
            page = source.page(feature)
            pages[feature] = _packed(asdict(page))
            if page.row:
                rows.append(page.row)
            if exchanges := feature_exchanges(run, feature):
                asked[feature] = _packed([asdict(one) for one in exchanges])
            progress.advance()
    columns = columns_of(open_table(run.labels).schema_arrow) if run.labels.is_file() else []
    found = {
        "run": {"name": seen.name, "sae": seen.sae, "columns": [asdict(c) for c in columns]},
        "overview": asdict(seen),
        "rows": rows,
        "pages": pages,
        "exchanges": asked,
    }
    return {name: plain(value) for name, value in found.items()}


def _packed(value: Any) -> str:
    """A tenth of its size: windows are much alike, and their activations mostly 0."""
    # In ASCII, so that lone surrogates, which UTF-8 lacks and a reply may hold, can be said.
    text = json.dumps(plain(value), allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(masked(text).encode(), mtime=0)).decode()
