"""Records of every format are read alike, and what is none is told with its place."""

import gzip
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.activations import record_files, record_reading
from autointerp.activations.record_files import entries_of, files_of_records
from autointerp.activations.record_format import RECORD_FORMATS
from autointerp.activations.record_reading import MAX_LENGTH, RecordReader
from autointerp.errors import InputError
from autointerp.vocabulary import Vocabulary
from tests.support.hostile import EVERYTHING
from tests.support.records import (
    dashboard,
    made_records,
    neuron_record,
    neuronpedia_row,
    openai_record,
    plain_rows,
    write_lines,
)

RECORDS = {3: made_records(3, 4, silent=2), 70: made_records(70, 3, silent=1)}
FORMATS = {
    "plain": [*plain_rows(RECORDS)],
    "openai": [neuron_record(f, r) for f, r in RECORDS.items()],
    "neuronpedia": [neuronpedia_row(f, *one) for f, r in RECORDS.items() for one in r],
}


def read(*paths, **options):
    reader = RecordReader(**options)
    found = list(reader.records(paths))
    vocabulary = reader.vocabulary("none")
    texts = {}
    for record in found:
        tokens = [vocabulary.token_text(i) for i in record.token_ids]
        texts[record.feature, "".join(tokens)] = (tokens, record.activations.tolist())
    return reader, texts


EXPECTED = {
    (feature, "".join(tokens)): (tokens, np.float32(values).tolist())
    for feature, records in RECORDS.items()
    for tokens, values in records
}


@pytest.mark.parametrize("shape", ["lines", "gzip", "array", "pretty array"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_in_every_shape(name, shape, tmp_path):
    rows = FORMATS[name]
    path = tmp_path / ("r.jsonl.gz" if shape == "gzip" else "r.json")
    if shape in ("lines", "gzip"):
        write_lines(path, rows)
    else:
        path.write_text(json.dumps(rows, indent=1 if shape == "pretty array" else None))
    reader, texts = read(path)
    assert set(reader.formats) == {name}
    assert texts == EXPECTED
    assert (reader.bad, reader.skip_bad) == (0, False)


@pytest.mark.parametrize("indent", [None, 2])
def test_batches_of_dashboards(indent, tmp_path):
    path = tmp_path / "batch-0.json"
    path.write_text(json.dumps(dashboard(RECORDS), indent=indent))
    reader, texts = read(path)
    assert texts == EXPECTED
    assert reader.sources == {"gpt2-small/6-res-jb"}
    assert reader.densities == {3: 0.002, 70: 0.002}


@pytest.mark.parametrize("indent", [None, 1])
def test_one_object_and_features_of_the_api(indent, tmp_path):
    api = {"modelId": "m", "layer": "6-x", "index": 3, "frac_nonzero": 0.5, "activations": []}
    api["activations"] = [{"tokens": t, "values": v} for t, v in RECORDS[3]]
    of_three = {key: value for key, value in EXPECTED.items() if key[0] == 3}
    for value in (api, neuron_record(3, RECORDS[3])):
        path = tmp_path / "one.json"
        path.write_text(json.dumps(value, indent=indent))
        assert read(path)[1] == of_three
    assert (
        read(
            write_lines(tmp_path / "3.json", [json.dumps([openai_record(*r) for r in RECORDS[3]])])
        )[1]
        == of_three
    )


def test_lists_of_records_are_numbered(tmp_path):
    rows = [[openai_record(*r) for r in records] for records in RECORDS.values()]
    for written in ([json.dumps(rows)], rows):
        _, texts = read(write_lines(tmp_path / "all.json", written))
        assert {key[0] for key in texts} == {0, 1}
        assert len(texts) == len(EXPECTED)
    named = [{"name": "a", "feature": 9, "activation_records": rows[0]}]
    _, texts = read(write_lines(tmp_path / "named.json", [json.dumps(named)]))
    assert {key[0] for key in texts} == {9}
    with pytest.raises(InputError, match=r"name the file NUMBER\.json"):
        read(write_lines(tmp_path / "which.json", [json.dumps(rows[0])]))


def test_tables_of_texts_and_of_ids(tmp_path):
    path = tmp_path / "r.parquet"
    pq.write_table(pa.Table.from_pylist([*plain_rows(RECORDS)]), path)
    assert read(path)[1] == EXPECTED
    known = Vocabulary((b"a", b"b", b"c"), frozenset())
    rows = [{"feature": 1, "tokens": [2, 0], "activations": [0, 1]}]
    pq.write_table(pa.Table.from_pylist(rows), path)
    reader = RecordReader(known=known)
    (record,) = reader.records([path])
    assert reader.vocabulary("none") is known
    assert record.token_ids.tolist() == [2, 0]
    with pytest.raises(InputError, match="row 1: its tokens are ids: say with --tokenizer"):
        read(path)
    with pytest.raises(InputError, match="tokens are texts, and --tokenizer is for token ids"):
        read(write_lines(tmp_path / "t.jsonl", FORMATS["plain"]), known=known)


def test_a_document_is_on_one_side(tmp_path):
    rows = [r | {"document": "d1"} for r in plain_rows(RECORDS)]
    rows[-1]["document"] = 7
    found = list(RecordReader().records([write_lines(tmp_path / "r.jsonl", rows)]))
    assert len({r.split_key for r in found}) == 2
    assert len({r.text_key for r in found}) == len(found)
    alone = list(RecordReader().records([write_lines(tmp_path / "a.jsonl", plain_rows(RECORDS))]))
    assert all(r.split_key == r.text_key for r in alone)
    other = list(RecordReader().records([write_lines(tmp_path / "b.jsonl", FORMATS["openai"])]))
    # Whatever the format and the order, a text has its side.
    assert {r.split_key for r in other} == {r.split_key for r in alone}


GOOD = {"feature": 1, "tokens": ["a", "b"], "activations": [0, 1]}
BAD = {
    "not a number": ('{"feature":1,"tokens":["a"],"activations":[NaN]}', "not finite"),
    "infinite": ('{"feature":1,"tokens":["a"],"activations":[-Infinity]}', "not finite"),
    "too large": (GOOD | {"activations": [1e300, 0]}, "too large for 32 bits"),
    "huge": (GOOD | {"activations": [10**400, 0]}, "not a list of numbers"),
    "negative": (GOOD | {"activations": [-0.5, 1]}, "activation -0.5 is negative"),
    "fewer": (GOOD | {"activations": [1]}, "2 tokens, but 1 activations"),
    "no tokens": (GOOD | {"tokens": []}, "tokens are not a list, or an empty one"),
    "a text": (GOOD | {"tokens": "ab"}, "tokens are not a list"),
    "texts and ids": (GOOD | {"tokens": ["a", 1]}, "neither all texts nor all token ids"),
    "truths": (GOOD | {"tokens": [True, False]}, "neither all texts nor all token ids"),
    "nested": (GOOD | {"activations": [[1], [2, 3]]}, "not a list of numbers"),
    "words": (GOOD | {"activations": ["1", "2"]}, "not a list of numbers"),
    "null": (GOOD | {"activations": None}, "not a list of numbers"),
    "feature of 20 digits": (GOOD | {"feature": 10**20}, "is not from 0 to 2,147,483,647"),
    "feature -1": (GOOD | {"feature": -1}, "is not from 0 to"),
    "feature true": (GOOD | {"feature": True}, "is not a whole number"),
    "feature 1.5": (GOOD | {"feature": 1.5}, "is not a whole number"),
    "no feature": ({"tokens": ["a"], "activations": [1]}, "it needs feature, tokens, activations"),
    "half a character": (
        '{"feature":1,"tokens":["\\ud800"],"activations":[1]}',
        "half a character",
    ),
    "long token": (GOOD | {"tokens": ["a" * 1001, "b"]}, "a token has 1,001 characters"),
    "split": (GOOD | {"split": "test"}, "split 'test' is not label, validate, score"),
    "a number": ("3", "it needs feature, tokens, activations"),
    "no JSON": ("{'feature': 1}", "not an object of JSON"),
    "deep": ("[" * 100_000, "not an object of JSON"),
    "long": (
        GOOD | {"tokens": ["a"] * (MAX_LENGTH + 1), "activations": [0] * (MAX_LENGTH + 1)},
        "65,537 tokens, over 65,536",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_record_is_told_with_its_place(name, tmp_path):
    row, why = BAD[name]
    path = write_lines(tmp_path / "r.jsonl", [GOOD, "", row, GOOD])
    with pytest.raises(InputError) as error:
        read(path)
    said = str(error.value)
    assert said.startswith(f"{path}, line 3: ")
    assert why in said
    assert "skip such records with --skip-bad-rows" in said
    assert "\n" not in said
    assert len(said) < 400
    reader, texts = read(path, skip_bad=True)
    assert (len(texts), reader.read, reader.bad) == (1, 3, 1)
    assert reader.remarks("none")[0].startswith(f"skipped 1 of 3 records: {path}, line 3: ")
    with pytest.raises(InputError, match=r"no activation records: |JSON is malformed"):
        read(write_lines(tmp_path / "only.jsonl", [row] * 20), skip_bad=True)


@pytest.mark.parametrize("token", [7, -1, 2**40])
def test_ids_beyond_the_tokenizer(token, tmp_path):
    path = write_lines(tmp_path / "r.jsonl", [GOOD | {"tokens": [0, token]}])
    with pytest.raises(InputError, match=re.escape(f"token id {token:,} is not one of")):
        read(path, known=Vocabulary((b"a", b"b"), frozenset()))


def test_many_bad_records_are_counted_and_few_shown(tmp_path):
    rows = [GOOD, *[GOOD | {"activations": [1]}] * 30]
    reader, _ = read(write_lines(tmp_path / "r.jsonl", rows), skip_bad=True)
    (said,) = reader.remarks("none")
    assert "skipped 30 of 31 records" in said
    assert said.count("2 tokens, but 1 activations") == 5
    assert said.endswith("and 25 more")


def test_below_zero_is_inactive_for_neurons_alone(tmp_path):
    rows = [{"activation_records": [openai_record(["a", "b"], [-0.1, 2.0])]}]
    reader, texts = read(write_lines(tmp_path / "r.jsonl", rows))
    assert texts[0, "ab"] == (["a", "b"], [0.0, 2.0])
    assert reader.remarks("none") == ["1 negative activations count as inactive"]
    path = write_lines(tmp_path / "p.jsonl", [GOOD | {"activations": [-1, 2]}])
    assert read(path, allow_negative=True)[1][1, "ab"] == (["a", "b"], [0.0, 2.0])


@pytest.mark.parametrize("name", EVERYTHING)
def test_hostile_tokens_stay_as_they_are_or_are_told(name, tmp_path):
    row = GOOD | {"tokens": [EVERYTHING[name], "b"]}
    path = write_lines(tmp_path / "r.jsonl", [row])
    try:
        reader, texts = read(path)
    except InputError as error:
        why = str(error)
    else:
        why = ""
    if why:
        assert re.search("half a character|a token has", why)
        return
    ((tokens, _),) = texts.values()
    assert tokens == row["tokens"]
    assert len(reader.vocabulary("none")) == len(set(tokens))


def test_marks_are_marks_where_somebody_says_so(tmp_path):
    tokens = ["Ġthe", "Ċ", "âĢ", "Ļ", " a", "▁b", "<0x0A>", "日"]
    path = write_lines(
        tmp_path / "r.jsonl", [{"feature": 0, "tokens": tokens, "activations": [1] * 8}]
    )
    reader = RecordReader()
    list(reader.records([path]))
    assert reader.vocabulary("none").text(range(8)) == "".join(tokens)
    assert reader.vocabulary("byte-level").text(range(8)) == " the\n’ a▁b<0x0A>日"
    assert reader.vocabulary("sentencepiece").text(range(8)) == "ĠtheĊâĢĻ a b\n日"
    said = reader.remarks("none")
    assert "1 of 8 distinct tokens begin with Ġ" in said[0]
    assert "import again with --token-marks sentencepiece" in said[1]
    assert reader.remarks("byte-level") == []


def test_several_saes_are_not_one(tmp_path):
    rows = [neuronpedia_row(0, ["a"], [1]), neuronpedia_row(0, ["b"], [1]) | {"layer": "7-x"}]
    with pytest.raises(InputError, match=r"several SAEs or layers \(gpt2-small/6-res-jb, gpt2-"):
        read(write_lines(tmp_path / "r.jsonl", rows))


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.jsonl", b"", "the files are empty"),
        ("a.jsonl.gz", gzip.compress(json.dumps(GOOD).encode() * 999)[:-9], "cannot be read"),
        (
            "a.json",
            b'[{"feature": 1, "tokens": ["a"], "activations": [1]}, {"fea',
            "row 2: the JSON",
        ),
        (
            "a.json",
            b'{"model_id": "m", "features": [{"feature_index": 1, "activ',
            "row 1: the JSON",
        ),
        ("a.parquet", b"PAR1" + bytes(99), "a.parquet"),
        ("a.jsonl", bytes(range(256)), "not text in UTF-8"),
        ("a.txt", b"prose", "it is not JSON or Parquet"),
        (
            "a.jsonl",
            b'{"x": 1}\n',
            "in no format of activation records that is known: plain, openai",
        ),
    ],
)
def test_damaged_files(name, content, why, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read(path)
    assert why in str(error.value)


def test_what_is_read_whole_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(record_files, "_MAX_VALUE", 1000)
    path = write_lines(tmp_path / "r.jsonl", [GOOD, "x" * 2000])
    with pytest.raises(InputError, match="a line or object of over 1,000 characters"):
        list(entries_of(path))
    path = tmp_path / "r.json"
    path.write_text(json.dumps(GOOD | {"tokens": ["a"] * 1000}, indent=1))
    with pytest.raises(InputError, match="a line or object of over 1,000 characters"):
        list(entries_of(path))
    monkeypatch.setattr(record_reading, "_MAX_DISTINCT", 1)
    with pytest.raises(InputError, match="over 1 distinct tokens"):
        read(write_lines(tmp_path / "t.jsonl", [GOOD]))


def test_of_an_export_the_folders_with_records_are_read(tmp_path):
    for folder in ("activations", "features", "explanations"):
        write_lines(tmp_path / "v1/m/6-x" / folder / "batch-0.jsonl.gz", ["{}"])
    found = [path.parent.name for path in files_of_records(tmp_path)]
    assert found == ["activations", "features"]
    (tmp_path / "empty").mkdir()
    for path, why in (("empty", "has no files"), ("none", "no such file or folder")):
        with pytest.raises(InputError, match=why):
            files_of_records(tmp_path / path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (
                    *("feature", "tokens", "activations", "values", "index", "document", "split"),
                    *(
                        "random_sample",
                        "random_sample_by_quantile",
                        "neuron_id",
                        "activation_records",
                    ),
                    *("feature_index", "features", "frac_nonzero"),
                )
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(
    st.lists(JSON, min_size=1, max_size=4), st.sampled_from([None, *RECORD_FORMATS]), st.booleans()
)
def test_whatever_a_file_holds_ends_in_records_or_in_a_line(tmp_path_factory, rows, name, skip):
    path = write_lines(tmp_path_factory.mktemp("any") / "1.jsonl", rows)
    chosen = RECORD_FORMATS.find(name) if name else None
    try:
        _, texts = read(path, format=chosen, skip_bad=skip)
    except InputError as error:
        said, texts = str(error), {}
    else:
        said = ""
    assert "\n" not in said
    for tokens, values in texts.values():
        assert len(tokens) == len(values) > 0
        assert np.all(np.isfinite(values))
        assert min(values) >= 0
