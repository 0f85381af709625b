"""Translates filters on features to SQL. Values are parameters, names come from the table.

Missing values match no comparison, `ne` included; `null` and `notnull` ask for them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autointerp.errors import InputError
from autointerp.plain_text import line_for_person
from autointerp.report.column_list import Column

_COMPARISONS = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_MISSING = {"null": "IS NULL", "notnull": "IS NOT NULL"}
OPERATORS = (*_COMPARISONS, "contains", *_MISSING)
_OF_TYPE = {
    "integer": (*_COMPARISONS, *_MISSING),
    "number": (*_COMPARISONS, *_MISSING),
    "text": OPERATORS,
    "boolean": ("eq", "ne", *_MISSING),
    "list": ("contains", *_MISSING),
}
_MAX_INT64 = 2**63


class BadQuery(InputError):
    """An invalid query, in one line."""


@dataclass(frozen=True, slots=True)
class Condition:
    """SQL for a place where a boolean may stand, and its parameters in order."""

    sql: str
    values: tuple[Any, ...] = ()


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def column(name: str, columns: Mapping[str, Column]) -> Column:
    """Raises BadQuery for a name that is not a column's."""
    if name not in columns:
        raise BadQuery(f"there is no column {_shown(name)}; /api/run lists the columns")
    return columns[name]


def filtered(text: str, columns: Mapping[str, Column]) -> Condition:
    """COLUMN:OP:VALUE as a condition. Raises BadQuery."""
    name, _, rest = text.partition(":")
    operator, colon, value = rest.partition(":")
    kind = column(name, columns).type
    if operator not in OPERATORS:
        raise BadQuery(
            f"filter {_shown(text)}: {_shown(operator)} is not an "
            f"operator; the operators are {_all(OPERATORS)}"
        )
    if operator not in _OF_TYPE[kind]:
        raise BadQuery(f"filter {_shown(text)}: a {kind} supports {_all(_OF_TYPE[kind])}")
    place = quoted(name)
    if operator in _MISSING:
        if value:
            raise BadQuery(f"filter {_shown(text)}: {operator} takes no value")
        return Condition(f"{place} {_MISSING[operator]}")
    if not colon:
        raise BadQuery(f"filter {_shown(text)} has no value: the form is COLUMN:OP:VALUE")
    if operator == "contains":
        if kind == "list":
            place = f"array_to_string({place}, chr(10))"
        return Condition(f"contains(lower({place}), lower(?))", (value,))
    return Condition(f"{place} {_COMPARISONS[operator]} ?", (_value(value, kind, text),))


def searched(text: str) -> list[Condition]:
    """Every word, in the label or at the beginning of the feature's number; cases are one."""
    return [
        Condition("(contains(_searched, lower(?)) OR starts_with(feature::VARCHAR, ?))", (w, w))
        for w in dict.fromkeys(text.split())
    ]


def _value(text: str, kind: str, whole: str) -> Any:
    if kind == "text":
        return text
    if kind == "boolean":
        if text.lower() not in ("true", "false"):
            raise BadQuery(f"filter {_shown(whole)}: {_shown(text)} is neither true nor false")
        return text.lower() == "true"
    try:
        number = float(text)
        exact = int(text) if kind == "integer" and "." not in text and "e" not in text else number
    except ValueError:
        number = exact = math.nan
    if not math.isfinite(number):
        raise BadQuery(f"filter {_shown(whole)}: {_shown(text)} is not a number")
    return exact if -_MAX_INT64 <= exact < _MAX_INT64 else number


def _shown(text: str) -> str:
    return repr(line_for_person(text)[:80])


def _all(names: tuple[str, ...]) -> str:
    return ", ".join(names)
