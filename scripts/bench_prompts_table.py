"""The tables of bench_prompts.py: a row a template, labels apart from judges."""

from collections.abc import Callable
from typing import Any

Row = dict[str, Any]


def markdown(rows: list[Row]) -> str:
    """Both tables, of those that have rows."""
    labels = [row for row in rows if row["task"] == "label"]
    judges = [row for row in rows if row["task"] != "label"]
    found = [(_LABEL_COLUMNS, labels), (_JUDGE_COLUMNS, judges)]
    return "\n".join(_table(columns, some) for columns, some in found if some)


def _share(row: Row, name: str) -> str:
    value = row.get(name)
    return "–" if value is None else f"{100 * value:.0f} %"


def _number(row: Row, name: str) -> str:
    return f"{row[name]:,.0f}" if name in row else "–"


def _interval(row: Row, name: str) -> str:
    found = row.get(name)
    if not found or not found["n"]:
        return row["error"][:80] if name == "score" and "error" in row else "–"
    return f"{found['mean']:+.2f} ({found['low']:+.2f} to {found['high']:+.2f})"


def _own(row: Row) -> str:
    found = row.get("score")
    return f"{found['own']:.2f}" if found and found["n"] else "–"


_Column = tuple[str, Callable[[Row], str]]
_COMMON: list[_Column] = [
    ("prompt tokens", lambda row: _number(row, "prompt_tokens")),
    ("reply tokens", lambda row: _number(row, "completion_tokens")),
    ("seconds", lambda row: _number(row, "seconds")),
]
_LABEL_COLUMNS: list[_Column] = [
    ("template", lambda row: row["variant"]),
    ("schema", lambda row: "yes" if row["schema"] else "no"),
    ("features a request", lambda row: str(row["per_request"])),
    ("readable", lambda row: _share(row, "readable")),
    ("copied", lambda row: _share(row, "copied")),
    ("identical", lambda row: _share(row, "identical")),
    ("labeled", lambda row: _share(row, "labeled")),
    ("distinct", lambda row: _share(row, "distinct")),
    ("flagged", lambda row: _share(row, "flagged")),
    ("detection − null", lambda row: _interval(row, "detection")),
    ("embedding − null", lambda row: _interval(row, "embedding")),
    *_COMMON,
]
_JUDGE_COLUMNS: list[_Column] = [
    ("template", lambda row: row["variant"]),
    ("schema", lambda row: "yes" if row["schema"] else "no"),
    ("readable", lambda row: _share(row, "readable")),
    ("copied", lambda row: _share(row, "copied")),
    ("says yes", lambda row: _share(row, "yes")),
    ("score", _own),
    ("score − null", lambda row: _interval(row, "score")),
    *_COMMON,
]


def _table(columns: list[_Column], rows: list[Row]) -> str:
    lines = [[name for name, _ in columns], ["---"] * len(columns)]
    lines += [[value(row) for _, value in columns] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
