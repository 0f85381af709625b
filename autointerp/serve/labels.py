"""The label table in DuckDB, edits applied: read when it changes, searched, filtered and sorted."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from autointerp.errors import InputError
from autointerp.report.column_list import Column, columns_of
from autointerp.runs.directory import Run
from autointerp.scoring import SCORERS
from autointerp.serve.filters import BadQuery, Condition, column, filtered, quoted, searched
from autointerp.serve.shapes import FeatureList, FoundFeatures
from autointerp.tables.edits import apply_edits
from autointerp.tables.read import read_table

SIMILARITY = "similarity"
_SIMILARITY = Column(SIMILARITY, "number", "Cosine of the label and what is searched for.")
_HIDDEN = "_searched"
# Nothing that a query says can reach a file, or a variable of this program.
_CLOSED: dict[str, Any] = {"enable_external_access": False, "python_enable_replacements": False}


@dataclass(frozen=True)
class LabelView:
    """The label table as it was at one moment. Rows are in the order of features."""

    table: pa.Table
    columns: dict[str, Column]
    connection: duckdb.DuckDBPyConnection

    @property
    def total(self) -> int:
        return len(self.table)

    @property
    def sae(self) -> str:
        """The SAE's name in the table; empty if the table has no rows."""
        return str(self.table["sae"][0]) if self.total else ""

    @cached_property
    def _features(self) -> frozenset[int]:
        return frozenset(self.table["feature"].to_pylist())

    def __contains__(self, feature: int) -> bool:
        return feature in self._features

    @cached_property
    def default_metric(self) -> str | None:
        """The first scorer's main metric that any feature has."""
        names = (f"{name}_{scorer.metric}" for name, scorer in SCORERS.items())
        known = (name for name in names if name in self.columns)
        return next((n for n in known if self.table[n].null_count < self.total), None)

    @cached_property
    def texts(self) -> tuple[list[str], np.ndarray]:
        """The distinct labels, and for every row which of them it has, -1 for none: [rows]."""
        encoded = pc.dictionary_encode(self.table["label"].combine_chunks())
        numbers = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
        texts: list[str] = encoded.dictionary.to_pylist()
        return texts, numbers

    def select(
        self,
        *,
        search: str = "",
        similarity: np.ndarray | None = None,
        filters: Sequence[str] = (),
        sort: str | None = None,
        descending: bool = False,
        offset: int = 0,
        limit: int = 100,
        columns: Sequence[str] = (),
    ) -> FeatureList:
        """The rows asked for; those without the value that is sorted by are last.

        `similarity` [rows] adds a column of that name, and leaves out rows where it is NaN; the
        nearest are first unless `sort` names a column. Raises BadQuery.
        """
        known = self.columns
        if similarity is not None:
            known = known | {SIMILARITY: _SIMILARITY}
            if sort is None:
                sort, descending = SIMILARITY, True
        conditions = searched(search) + [filtered(text, known) for text in filters]
        shown = [column(name, known).name for name in dict.fromkeys(columns)] or list(known)
        order = _order(column(sort, known), descending) if sort else "feature"
        cursor = self.connection.cursor()
        source = "labels"
        if similarity is not None:
            cursor.register("near", pa.table({SIMILARITY: similarity}))
            source = "labels POSITIONAL JOIN near"
            conditions.append(Condition(f"NOT isnan({SIMILARITY})"))
        where, values = _where(conditions)
        chosen = cursor.execute(f"SELECT rowid FROM {source} {where} ORDER BY {order}", values)
        numbers = chosen.fetchnumpy()["rowid"]
        page = numbers[offset : offset + limit]
        names = [name for name in shown if name in self.columns]
        rows = self.table.select(names).take(pa.array(page)).to_pylist()
        if similarity is not None and SIMILARITY in shown:
            for row, value in zip(rows, similarity[page].tolist(), strict=True):
                row[SIMILARITY] = value
        return FeatureList(self.total, len(numbers), offset, rows)

    def with_words(self, query: str, limit: int) -> list[FoundFeatures]:
        """Labels that have every word; the shortest, of which they are the most, first."""
        where, values = _where([*searched(query), Condition("label IS NOT NULL")])
        rows = self.connection.cursor().execute(
            f"SELECT feature, label FROM labels {where} ORDER BY length(label), feature LIMIT ?",
            [*values, limit],
        )
        return [FoundFeatures(feature, label, None) for feature, label in rows.fetchall()]

    def nearest(self, similarity: np.ndarray, limit: int) -> list[FoundFeatures]:
        """The labels of largest similarity [rows]."""
        found = self.select(
            similarity=similarity, limit=limit, columns=["feature", "label", SIMILARITY]
        )
        return [FoundFeatures(row["feature"], row["label"], row[SIMILARITY]) for row in found.rows]


def _where(conditions: Sequence[Condition]) -> tuple[str, list[Any]]:
    values = [value for condition in conditions for value in condition.values]
    return "WHERE " + " AND ".join(["true", *(c.sql for c in conditions)]), values


def _order(by: Column, descending: bool) -> str:
    if by.type == "list":
        raise BadQuery(f"column {by.name!r} holds lists, which have no order")
    key = f"lower({quoted(by.name)})" if by.type == "text" else quoted(by.name)
    return f"{key} {'DESC' if descending else 'ASC'} NULLS LAST, feature"


def read_labels(run: Run) -> LabelView:
    """The label table, edits applied. Raises AutointerpError where there is none yet."""
    table = apply_edits(read_table(run.labels), run)
    for i, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            # JSON has no such numbers, and none is a measurement.
            values = pc.if_else(pc.is_finite(table[i]), table[i], None)
            table = table.set_column(i, field, values)
    columns = {column.name: column for column in columns_of(table.schema)}
    connection = duckdb.connect(":memory:", config=_CLOSED)
    connection.register("read", table)
    try:
        connection.execute(
            f"CREATE TABLE labels AS SELECT *, lower(coalesce(label, '')) AS {_HIDDEN} FROM read"
        )
    except duckdb.Error as error:  # columns of kinds, or by names, that it does not know
        raise InputError(f"{run.labels} cannot be searched: {str(error).splitlines()[0]}") from None
    connection.unregister("read")
    return LabelView(table.combine_chunks(), columns, connection)
