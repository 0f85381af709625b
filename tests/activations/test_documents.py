import bz2
import csv
import gzip
import json
import lzma

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp.activations.contexts import ContextReader, TextSettings
from autointerp.activations.documents import documents, source_identity
from autointerp.activations.rows import RowCount
from autointerp.activations.text_files import text_files
from autointerp.errors import AutointerpError
from autointerp.storage.files import files_identity
from tests.activations.test_contexts import TALK, read, write_rows
from tests.support.tokenizers import chat_tokenizer, word_tokenizer

WANTED = ["one document", "another, with a \u2028 separator", '"quoted"\nand ünïcode']
ROWS = [{"id": number, "text": text} for number, text in enumerate(WANTED)]
TABLE = pd.DataFrame(ROWS)
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def zstd(data):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(data)
    return sink.getvalue().to_pybytes()


PACKED = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd}


def texts(source, field=None):
    """Documents that are in one piece."""
    found = list(documents(str(source), field))
    assert all(d.begins and d.ends for d in found)
    return [d.text for d in found]


def test_documents_come_from_files_folders_and_rows(tmp_path):
    lines = write_rows(tmp_path / "a.jsonl", [{"text": "one"}, {"text": ""}, {"text": "two"}])
    assert texts(lines) == ["one", "two"]
    pq.write_table(pa.table({"body": ["three", ""]}), tmp_path / "b.parquet")
    assert texts(tmp_path / "b.parquet", "body") == ["three"]
    (tmp_path / "c.txt").write_text("four")
    (tmp_path / "b.parquet").unlink()
    assert texts(tmp_path) == ["one", "two", "four"]


WRITERS = {
    "pandas.json": TABLE.to_json,
    "records.json": lambda path: TABLE.to_json(path, orient="records"),
    "indented.json": lambda path: TABLE.to_json(path, orient="records", indent=2),
    "split.json": lambda path: TABLE.to_json(path, orient="split"),
    "table.json": lambda path: TABLE.to_json(path, orient="table"),
    "lines.json": lambda path: TABLE.to_json(path, orient="records", lines=True),
    "lines.ndjson": lambda path: path.write_text(LINES),
    "LINES.JSONL": lambda path: path.write_text(LINES),
    "no_extension": lambda path: path.write_text(LINES),
    "lines.txt": lambda path: path.write_text(LINES),
    "array.chunk1": lambda path: path.write_text(json.dumps(ROWS)),
    "columns.json": lambda path: path.write_text(json.dumps({"id": [0, 1, 2], "text": WANTED})),
    "nested.json": lambda path: path.write_text(json.dumps({"version": "1", "rows": ROWS})),
    "bom.jsonl": lambda path: path.write_bytes(b"\xef\xbb\xbf" + LINES.encode()),
    "windows.jsonl": lambda path: path.write_bytes(LINES.replace("\n", "\r\n").encode("utf-16")),
    "pandas.csv": TABLE.to_csv,
    "semicolons.csv": lambda path: TABLE.to_csv(path, sep=";", encoding="utf-8-sig"),
    "tabs.tsv": lambda path: TABLE.to_csv(path, sep="\t", index=False),
    "quoted.csv": lambda path: TABLE.to_csv(path, quoting=csv.QUOTE_ALL),
    "pandas.parquet": TABLE.to_parquet,
    "parquet_without_a_name": TABLE.to_parquet,
    "pandas.arrow": TABLE.to_feather,
    "datasets.json": lambda path: datasets.Dataset.from_list(ROWS).to_json(path),
    "datasets.csv": lambda path: datasets.Dataset.from_list(ROWS).to_csv(path),
    "datasets.parquet": lambda path: datasets.Dataset.from_list(ROWS).to_parquet(path),
    "saved": lambda path: datasets.Dataset.from_list(ROWS).save_to_disk(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_rows_are_read_from_whatever_wrote_them(tmp_path, name):
    WRITERS[name](tmp_path / name)
    assert texts(tmp_path / name) == WANTED


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("name", ["lines.jsonl", "array.json", "table.csv", "one.txt"])
def test_compressed_files_are_read_and_damaged_ones_are_said(tmp_path, name, packing):
    content = {
        "lines.jsonl": LINES,
        "array.json": json.dumps(ROWS),
        "table.csv": TABLE.to_csv(),
        "one.txt": WANTED[0],
    }[name]
    wanted = WANTED if name != "one.txt" else WANTED[:1]
    packed = PACKED[packing](content.encode())
    file = tmp_path / f"{name}{packing}"
    file.write_bytes(packed)
    assert texts(file) == wanted
    file.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(AutointerpError, match="cannot be read"):
        texts(file)
    unnamed = tmp_path / name
    unnamed.write_bytes(packed)
    assert texts(unnamed) == wanted


def test_a_saved_data_set_with_splits_is_read_without_what_lies_beside_it(tmp_path):
    splits = {"train": ROWS[:2], "test": ROWS[2:]}
    saved = datasets.DatasetDict({n: datasets.Dataset.from_list(r) for n, r in splits.items()})
    saved.save_to_disk(tmp_path / "saved")
    # What `map` of a data set that was loaded from there leaves.
    loaded = datasets.load_from_disk(str(tmp_path / "saved" / "train"))
    loaded.map(lambda row: {"text": row["text"].upper()})
    assert list((tmp_path / "saved" / "train").glob("cache-*.arrow"))
    assert sorted(texts(tmp_path / "saved")) == sorted(WANTED)
    why = {path.name: why for path, why in text_files(tmp_path / "saved").left_out}
    assert why["dataset_dict.json"].startswith("rows without 'text'")
    assert any(name.startswith("cache-") for name in why)


def test_a_download_of_the_hub_is_its_rows(tmp_path):
    hub = tmp_path / "datasets--owner--talk"
    snapshot, blobs = hub / "snapshots" / "0a1b", hub / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (snapshot / ".cache").mkdir()
    (snapshot / ".cache" / "rows.jsonl").write_text(LINES)
    for number, (name, content) in enumerate(
        {"README.md": "---\nlicense: mit\n---\n", ".gitattributes": "*", "t.jsonl": LINES}.items()
    ):
        (blobs / f"b{number}").write_text(content)
        (snapshot / name).symlink_to(blobs / f"b{number}")
    left_out = []
    for source in (snapshot, hub):
        assert [d.text for d in documents(str(source), None, left_out)] == WANTED
    assert {p.name for p in left_out} >= {"README.md", ".gitattributes", "rows.jsonl"}


def test_rows_of_something_else_in_a_folder_of_texts_are_left_out(tmp_path):
    data = tmp_path / "data"
    (data / "notes").mkdir(parents=True)
    (tmp_path / "package.json").write_text('{"name": "a"}')
    for folder in (tmp_path, data, data / "notes"):
        (folder / "README.md").write_text(f"read me in {folder.name}")
    assert len(texts(tmp_path)) == 3
    (data / "numbers.csv").write_text("x,y\n1,2\n")
    pq.write_table(pa.table({"x": [1]}), data / "x.parquet")
    assert texts(tmp_path) == ["read me in notes"]
    left_out = [str(p.relative_to(tmp_path)) for p, _ in text_files(tmp_path).left_out]
    wanted = ["README.md", "data/README.md", "data/numbers.csv", "data/x.parquet", "package.json"]
    assert left_out == wanted
    write_rows(data / "late.jsonl", [{"body": 1}, {"body": 2}, {"text": "three"}])
    found = documents(str(data), rows=RowCount(skip_bad=True))
    assert [d.text for d in found] == ["three", "read me in notes"]
    taken = [f.path.name for f in text_files(data, "body").taken]
    assert taken == ["late.jsonl", "README.md"]


def test_a_wrong_field_does_not_make_the_card_of_a_data_set_its_text(tmp_path):
    (tmp_path / "README.md").write_text("about it")
    write_rows(tmp_path / "train.jsonl", [{"body": "x"}] * 2)
    with pytest.raises(
        AutointerpError, match=r"no readable text file: .*train.jsonl \(rows without"
    ):
        list(documents(str(tmp_path)))
    assert texts(tmp_path, "body") == ["x", "x"]


def test_a_readme_is_text_where_there_is_nothing_but_text(tmp_path):
    (tmp_path / "README.md").write_text("read me")
    (tmp_path / "notes.txt").write_text("notes")
    assert texts(tmp_path) == ["read me", "notes"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("picture.png", b"\x89PNG\r\n\x1a\n\x00\x00", "bytes that are not text"),
        ("part.txt", b"a\x00b", "bytes that are not text"),
        ("rows.tar.gz", gzip.compress(bytes(600), mtime=0), "bytes that are not text"),
        ("dump.xml", b"<page>text</page>", "unknown file type '.xml': rename it to .txt"),
        ("part.0001", b"Once upon a time", "unknown file type '.0001'"),
        ("empty.parquet", b"", "not a Parquet file"),
        ("page.parquet", b"<html>404</html>", "not a Parquet file"),
        ("rows.parquet.gz", gzip.compress(b"PAR1abc", mtime=0), "Parquet inside gzip"),
    ],
)
def test_a_file_of_unknown_kind_is_never_prose(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    for source in (tmp_path / name, tmp_path):
        with pytest.raises(AutointerpError, match=said):
            list(documents(str(source)))
    (tmp_path / "b.txt").write_text("two")
    found = text_files(tmp_path)
    assert [f.path.name for f in found.taken] == ["b.txt"]
    assert found.left_out[0].path == tmp_path / name
    assert said in found.left_out[0].why
    assert name in "".join(found.remarks())


def test_bytes_of_another_encoding_are_replaced_and_counted(tmp_path):
    (tmp_path / "a.txt").write_bytes("café au lait, as naïve as ever".encode("latin-1"))
    (tmp_path / "b.txt").write_bytes("\ufeffcafé".encode("utf-16-le"))
    rows = RowCount()
    found = [d.text for d in documents(str(tmp_path), rows=rows)]
    assert found == ["caf\ufffd au lait, as na\ufffdve as ever", "café"]
    assert rows.replaced == 2
    assert rows.remarks() == ["replaced 2 bytes of the text that are not UTF-8"]


def test_conversations_of_either_kind_are_turns(tmp_path):
    sharegpt = {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]}
    rows = [{"messages": TALK}, sharegpt]
    path = write_rows(tmp_path / "a.jsonl", rows)
    (tmp_path / "b.json").write_text(json.dumps(rows))
    (tmp_path / "c.json").write_text(json.dumps(rows[0], indent=1))
    first, second = documents(str(path))
    assert first.turns == TALK
    assert [t["content"] for t in second.turns] == ["hi", "ho"]
    assert [t["role"] for t in second.turns] == ["user", "assistant"]
    assert [d.turns for d in documents(str(tmp_path / "b.json"))] == [first.turns, second.turns]
    assert [d.turns for d in documents(str(tmp_path / "c.json"))] == [TALK]


ODD = {
    "broken": ('{"text": "on', "not a JSON object"),
    "no object": ("[1]", "not an object with 'text' or 'messages'"),
    "no field": ('{"body": "x"}', "choose another field with --text-field"),
    "null": ('{"text": null}', "'text' is null"),
    "number": ('{"text": 3}', "'text' is neither a text nor a list of turns"),
    "half a character": ('{"text": "a\\ud83d"}', "character 2 is not valid UTF-8"),
    "list as text": ('{"messages": "[]"}', "'messages' is neither a text nor a list"),
    "null content": ('{"messages": [{"role": "user", "content": null}]}', "a text and nothing"),
    "no content": ('{"messages": [{"role": "user"}]}', "a turn must be an object with a 'role'"),
    "parts": (
        '{"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}',
        "a text and a list",
    ),
    "tool calls": (
        '{"messages": [{"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}]}',
        "turn 1 calls tools",
    ),
    "deep": ("[" * 100_000, "not a JSON object"),
    "bytes": ('{"text": "caf\udce9"}', "character 4 is not valid UTF-8"),
}


@pytest.mark.parametrize("name", ODD)
def test_one_odd_row_is_skipped_counted_and_shown(tmp_path, name):
    row, said = ODD[name]
    file = tmp_path / "a.jsonl"
    lines = f'{{"text": "one"}}\n{row}\n{{"text": "two"}}\n'
    file.write_bytes(lines.encode("utf-8", "surrogateescape"))
    rows = RowCount()
    assert [d.text for d in documents(str(file), rows=rows)] == ["one", "two"]
    assert (rows.read, rows.bad) == (3, 1)
    (remark,) = rows.remarks()
    assert remark.startswith(f"skipped 1 of 3 rows of the text: {file}, line 2: ")
    assert said in remark
    file.write_bytes(f'{{"text": null}}\n{row}\n'.encode("utf-8", "surrogateescape"))
    with pytest.raises(AutointerpError, match="2 of the first 2 rows of the text cannot be used"):
        list(documents(str(file)))
    assert list(documents(str(file), rows=RowCount(skip_bad=True))) == []


@given(bad=st.lists(st.booleans(), min_size=1, max_size=400))
@settings(max_examples=40, deadline=None)
def test_over_one_percent_of_bad_rows_stop(tmp_path_factory, bad):
    rows = [{"text": None if b else "x"} for b in bad]
    path = write_rows(tmp_path_factory.mktemp("rows") / "a.jsonl", rows)
    count = RowCount()
    if all(bad) or sum(bad) > max(1, len(bad) / 100):
        with pytest.raises(AutointerpError, match="over 1 %"):
            list(documents(str(path), rows=count))
    else:
        assert len(list(documents(str(path), rows=count))) == len(bad) - sum(bad)
        assert count.bad == sum(bad)


def test_part_of_a_text_may_have_more_bad_rows_than_the_whole(tmp_path):
    rows = [{"text": None if n < 5 else "the cat sat on"} for n in range(600)]
    path = write_rows(tmp_path / "a.jsonl", rows)
    reader = ContextReader(TextSettings(str(path), 4), word_tokenizer())
    assert len(list(reader.batches(2, 10))) == 5
    assert reader.rows.bad == 5
    reader = ContextReader(TextSettings(str(path), 4), word_tokenizer())
    assert len(list(reader.batches(10, 1000))) > 70
    assert reader.rows.bad == 5


def test_a_field_that_is_null_gives_way_to_one_that_is_not(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", [{"text": None, "messages": TALK}])
    assert [d.turns for d in documents(str(path))] == [TALK]


def test_a_wrong_field_stops_early_in_a_large_file(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", [{"body": "x"}] * 5000)
    rows = RowCount()
    with pytest.raises(AutointerpError, match=r"line 1: not an object with 'text'.*; and 6 more"):
        list(documents(str(path), rows=rows))
    assert rows.read == 11


def test_odd_rows_of_a_table_have_their_numbers(tmp_path):
    (tmp_path / "a.csv").write_text("id,text\n1,one\n2\n3,two\n4,x,y\n" + "5,three\n" * 300)
    rows = RowCount()
    assert len(list(documents(str(tmp_path / "a.csv"), rows=rows))) == 302
    assert [shown.partition("a.csv, ")[2] for shown in rows.shown] == [
        "row 3: 1 cells, but the first row has 2",
        "row 5: 3 cells, but the first row has 2",
    ]
    table = pa.table({"messages": [TALK, None, [{"role": "user", "content": None}], *[TALK] * 300]})
    pq.write_table(table, tmp_path / "b.parquet")
    rows = RowCount()
    assert len(list(documents(str(tmp_path / "b.parquet"), rows=rows))) == 301
    assert [shown.partition("b.parquet, ")[2][:5] for shown in rows.shown] == ["row 2", "row 3"]


def test_conversations_that_the_template_declines_are_skipped(tmp_path):
    tokenizer = chat_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system turn') "
        "}}{% endif %} {{ m['content'] }}{% endfor %}"
    )
    declined = {"messages": [{"role": "system", "content": "the mat"}, *TALK]}
    rows = [{"messages": TALK}, declined, {"messages": TALK}]
    path = write_rows(tmp_path / "a.jsonl", rows)
    reader, batches = read(path, tokenizer, 16, packing="documents")
    assert sum(len(b) for b in batches) == 2
    (remark,) = reader.remarks()
    assert "line 2: the subject model's chat template rejects it: no system turn" in remark
    write_rows(path, [*rows, declined])
    with pytest.raises(AutointerpError, match="2 of the first 4 rows"):
        read(path, tokenizer, 16, packing="documents")
    reader, _ = read(path, tokenizer, 16, packing="documents", skip_bad_rows=True)
    assert reader.rows.bad == 2


def test_missing_files_columns_and_damaged_files_are_said(tmp_path):
    with pytest.raises(AutointerpError, match="no such file or folder"):
        list(documents(str(tmp_path / "none")))
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "b.parquet")
    (tmp_path / "c.csv").write_text("id,body\n1,x\n")
    for name in ("b.parquet", "c.csv"):
        with pytest.raises(AutointerpError, match="no column 'text' or 'messages'"):
            list(documents(str(tmp_path / name)))
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(AutointerpError, match="cannot be read"):
        list(documents(str(tmp_path / "b.parquet")))
    TABLE.to_feather(tmp_path / "d.arrow")
    (tmp_path / "d.arrow").write_bytes((tmp_path / "d.arrow").read_bytes()[:200])
    with pytest.raises(AutointerpError, match="cannot be read"):
        list(documents(str(tmp_path / "d.arrow")))
    (tmp_path / "e.json").write_text(json.dumps(ROWS)[:-20])
    with pytest.raises(AutointerpError, match="row 3: the JSON is malformed or truncated here"):
        list(documents(str(tmp_path / "e.json")))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    rows=st.lists(st.fixed_dictionaries({"text": st.text(min_size=1), "x": _JSON}), min_size=1),
    indent=st.sampled_from([None, 0, 3]),
    is_ascii=st.booleans(),
    chunk=st.integers(1, 40),
)
@settings(max_examples=60, deadline=None)
def test_an_array_is_read_in_pieces_of_any_size(tmp_path_factory, rows, indent, is_ascii, chunk):
    path = tmp_path_factory.mktemp("array") / "a.json"
    try:
        path.write_text(json.dumps(rows, indent=indent, ensure_ascii=is_ascii), encoding="utf-8")
    except UnicodeEncodeError:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autointerp.activations.row_files._CHUNK", chunk)
        found = [d.text for d in documents(str(path), rows=RowCount(skip_bad=True))]
    surrogates = [any(0xD800 <= ord(c) < 0xE000 for c in row["text"]) for row in rows]
    assert found == [r["text"] for r, odd in zip(rows, surrogates, strict=True) if not odd]


def test_what_is_read_as_ever_has_its_old_identity(tmp_path):
    write_rows(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "b.txt").write_text("text")
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "c.parquet")
    paths = [tmp_path / n for n in ("a.jsonl", "b.txt", "c.parquet")]
    assert source_identity(str(tmp_path)) == files_identity(paths)
    write_rows(tmp_path / "d.json", ROWS)  # was read as prose
    assert source_identity(str(tmp_path / "d.json")) != files_identity([tmp_path / "d.json"])
    before = source_identity(str(tmp_path))
    (tmp_path / "README.md").write_text("about it")
    assert source_identity(str(tmp_path)) == before


def test_a_data_set_of_the_hub_is_streamed(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "owner" / "talk"
    folder.mkdir(parents=True)
    write_rows(folder / "train.jsonl", [{"text": "one"}, {"text": "two"}])
    write_rows(folder / "test.jsonl", [{"text": "three"}])
    assert texts("hf:owner/talk") == ["one", "two"]
    assert texts("hf:owner/talk:test") == ["three"]
    assert source_identity("hf:owner/talk") != source_identity("hf:owner/talk:test")
    with pytest.raises(AutointerpError, match="hf:owner/talk:none cannot be read"):
        list(documents("hf:owner/talk:none"))
    with pytest.raises(AutointerpError, match="row 1: not an object with 'body'"):
        list(documents("hf:owner/talk", "body"))
    with pytest.raises(AutointerpError, match="the form is hf:owner/dataset"):
        list(documents("hf:talk"))


def test_the_demo_text_is_the_standard_library():
    first = next(documents("demo"))
    assert len(first.text) > 0
    assert first == next(documents("demo"))
