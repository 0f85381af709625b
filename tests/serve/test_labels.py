"""The label table in DuckDB against a search through its rows one by one."""

import math
import operator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autointerp.runs.directory import Run
from autointerp.serve.filters import BadQuery
from autointerp.serve.labels import read_labels
from autointerp.serve.shapes import answer
from autointerp.tables.schema import labels_schema
from tests.support.hostile import HOSTILE

TEXTS = [*HOSTILE.values(), None, "100 % of 'x_y'", "Über uns", 'a "b" c']
SHORT = [text for text in TEXTS if text and len(text) < 200]
NUMBERS = [None, math.nan, math.inf, -math.inf, 0.5, 0.25, -1.0, 0.0]
INTEGERS = [None, 2**53 + 1, 2**63 - 1, -(2**63), 0, 7]
WORDS = ["a", "A", "%", "_", "'", '"', "\\", ";--", "über", "1", "12", "\0", "x_y", "{{", "\u202a"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Rows in which any column may hold anything, or nothing."""
    run = Run(tmp_path_factory.mktemp("hostile"))
    count = 3 * len(TEXTS)
    rows = [
        {
            "sae": "c",
            "feature": 2 * i,
            "status": "labeled",
            "label": TEXTS[i % len(TEXTS)],
            "n_active": INTEGERS[i % len(INTEGERS)],
            "density": NUMBERS[i % len(NUMBERS)],
            "polysemantic": [True, False, None][i % 3],
            "top_tokens": [["A", " b"], [], None, ["x_y", "'"]][i % 4],
        }
        for i in range(count)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=labels_schema()), run.labels)
    return read_labels(run)


_COMPARE = {name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")}


def finite(value):
    return None if isinstance(value, float) and not math.isfinite(value) else value


def holds(row, condition):
    name, asked, text = condition.split(":", 2)
    value = row[name]
    if asked in ("null", "notnull"):
        return (value is None) == (asked == "null")
    if value is None:
        return False
    if asked == "contains":
        joined = "\n".join(value) if isinstance(value, list) else value
        return text.lower() in joined.lower()
    wanted = {str: str, bool: "true".__eq__}.get(type(value), float)(text)
    return _COMPARE[asked](value, wanted)


TEXT_COLUMNS = ["label", "top_tokens"]
comparisons = st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge"])
numbers = st.sampled_from(["0", "0.25", "-1", "7", "1e300", "-1e19", "99999999999999999999"])
conditions = st.one_of(
    st.tuples(
        st.sampled_from(["label", "top_tokens"]), st.just("contains"), st.sampled_from(WORDS)
    ),
    st.tuples(st.just("label"), comparisons, st.sampled_from(SHORT)),
    st.tuples(st.sampled_from(["density", "n_active", "feature"]), comparisons, numbers),
    st.tuples(st.just("polysemantic"), st.just("eq"), st.sampled_from(["true", "false"])),
    st.tuples(
        st.sampled_from(["label", "density", "n_active", "polysemantic", "top_tokens"]),
        st.sampled_from(["null", "notnull"]),
        st.just(""),
    ),
).map(":".join)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    words=st.lists(st.sampled_from(WORDS), max_size=2),
    asked=st.lists(conditions, max_size=2),
    sort=st.sampled_from([None, "label", "density", "n_active", "polysemantic", "feature"]),
    descending=st.booleans(),
    offset=st.sampled_from([0, 3, 10_000, 2**31 - 1]),
    limit=st.sampled_from([0, 5, 1000]),
)
def test_a_list_is_that_of_looking_through_all_rows(
    table, words, asked, sort, descending, offset, limit
):
    rows = [{k: finite(v) for k, v in row.items()} for row in table.table.to_pylist()]
    matching = [
        row
        for row in rows
        if all(
            w.lower() in (row["label"] or "").lower() or str(row["feature"]).startswith(w)
            for w in words
        )
        and all(holds(row, condition) for condition in asked)
    ]
    if sort:
        there = [row for row in matching if row[sort] is not None]
        key = lambda v: v.lower() if isinstance(v, str) else v  # noqa: E731
        there.sort(key=lambda row: key(row[sort]), reverse=descending)
        matching = there + [row for row in matching if row[sort] is None]
    found = table.select(
        search=" ".join(words),
        filters=asked,
        sort=sort,
        descending=descending,
        offset=offset,
        limit=limit,
        columns=["feature", "label", "density"],
    )
    assert (found.total, found.matched) == (len(rows), len(matching))
    assert [r["feature"] for r in found.rows] == [
        r["feature"] for r in matching[offset : offset + limit]
    ]
    assert answer(found).body  # no NaN, no infinity: it would raise


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"filters": ["nope:eq:1"]}, "no column 'nope'"),
        ({"filters": ["_searched:contains:a"]}, "no column '_searched'"),
        ({"filters": ['label" OR 1=1 --:eq:1']}, "no column"),
        ({"filters": ["density:like:1"]}, "'like' is not an operator; the operators are eq, ne"),
        ({"filters": ["density:contains:1"]}, "a number supports eq"),
        ({"filters": ["density:gt"]}, "has no value"),
        ({"filters": ["density:null:1"]}, "null takes no value"),
        *(({"filters": [f"n_active:gt:{v}"]}, "is not a number") for v in ("", "x", "nan", "inf")),
        ({"filters": ["n_active:gt:" + "9" * 9999]}, "is not a number"),
        ({"filters": ["polysemantic:eq:1"]}, "neither true nor false"),
        ({"sort": "label; DROP TABLE labels"}, "no column"),
        ({"sort": "top_tokens"}, "lists, which have no order"),
        ({"columns": ["feature", "x"]}, "no column 'x'"),
        ({"sort": "similarity"}, "no column 'similarity'"),
    ],
)
def test_what_cannot_be_meant_is_said_in_one_line(table, query, said):
    with pytest.raises(BadQuery, match=said) as raised:
        table.select(**query)
    assert str(raised.value).isprintable()


def test_the_nearest_are_first_and_similarity_is_a_column(table):
    similarity = np.linspace(0, 1, table.total, dtype=np.float32)
    similarity[-3:] = np.nan
    found = table.select(similarity=similarity, filters=["similarity:lt:0.5"], limit=2)
    below = [i for i in range(table.total) if similarity[i] < 0.5]
    assert found.matched == len(below)
    assert [row["feature"] for row in found.rows] == [2 * below[-1], 2 * below[-2]]
    assert found.rows[0]["similarity"] == similarity[below[-1]]
    sorted_by = table.select(similarity=similarity, sort="feature", columns=["feature"], limit=1)
    assert sorted_by.matched == table.total - 3
    assert sorted_by.rows == [{"feature": 0}]
    (first,) = table.nearest(similarity, 1)
    assert (first.feature, first.score) == (2 * (table.total - 4), similarity[-4])
