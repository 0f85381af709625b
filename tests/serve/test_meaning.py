"""Search by meaning, with a real sentence encoder."""

import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autointerp.errors import AutointerpError
from autointerp.plain_text import one_line
from autointerp.scoring.scorers.embedding import Encoder
from autointerp.serve import meaning
from autointerp.serve.labels import read_labels
from autointerp.serve.meaning import FILE, Meanings, NotReady, ServerStopping
from tests.scoring.scorers.test_on_device import ENCODER
from tests.serve.conftest import serving

LABELS = ["baking bread", "football matches", "court rulings", "<script>", "baking bread", None]


@pytest.fixture
def run(copied):
    """Whose features have these labels, and the others none."""
    table = pq.read_table(copied.labels)
    labels = LABELS + [None] * (len(table) - len(LABELS))
    place = table.schema.get_field_index("label")
    pq.write_table(
        table.set_column(place, table.schema.field("label"), pa.array(labels, pa.string())),
        copied.labels,
    )
    return copied


@pytest.fixture
def encoded(monkeypatch):
    """The texts that are encoded as labels, in order."""
    texts = []
    encode = Encoder.encoded

    def seen(self, given, *, query):
        texts.extend([] if query else given)
        return encode(self, given, query=query)

    monkeypatch.setattr(Encoder, "encoded", seen)
    monkeypatch.setattr(meaning, "_WAIT_S", 60.0)
    return texts


def test_the_nearest_labels_each_encoded_once(run, encoded):
    def found(client, **query):
        return client.get("/api/search", params={"by": "meaning", **query}).json()

    with serving(run, embedding_model=str(ENCODER)) as client:
        assert client.get("/api/run").json()["meaning_ready"] == 0
        first = found(client, q="a recipe for loaves", limit=3)
        assert [one["feature"] for one in first[:2]] == [0, 4]
        assert first[0]["score"] == first[1]["score"] > first[2]["score"]
        assert found(client, q="the striker's goal")[0]["feature"] == 1
        query = {"meaning": "a trial", "filter": "feature:lt:3", "columns": "feature,similarity"}
        rows = client.get("/api/features", params=query).json()
        assert (rows["matched"], rows["rows"][0]["feature"]) == (3, 2)
        assert len(found(client, q="x", limit=100)) == 5  # no label, nothing to find
        assert client.get("/api/run").json()["meaning_ready"] == 1
        assert sorted(encoded) == sorted(set(LABELS[:5]))
        edit = {"kind": "label", "author": "a", "label": "penalty shoot-outs"}
        assert client.post("/api/features/3/edits", json=edit).status_code == 201
        assert found(client, q="penalty shoot-outs")[0]["feature"] == 3
        assert encoded[4:] == ["penalty shoot-outs"]
    with serving(run, embedding_model=str(ENCODER)) as client:
        again = found(client, q="a recipe for loaves", limit=2)
    assert again[0]["score"] == pytest.approx(first[0]["score"], abs=1e-3)
    assert [one["feature"] for one in again] == [0, 4]
    assert len(encoded) == 5


def test_cosines_are_those_of_the_vectors(run, encoded):
    labels = read_labels(run)
    meanings = Meanings(run, str(ENCODER))
    similarity = meanings.similarity(labels, "bread\n")
    meanings.close()
    vectors = Encoder(str(ENCODER), meaning.torch.device("cpu")).encoded(
        ["bread⏎", *LABELS[:5]], query=False
    )
    assert similarity[:5] == pytest.approx(vectors[1:] @ vectors[0], abs=1e-3)
    assert np.isnan(similarity[5:]).all()


def test_what_is_kept_of_another_model_or_damaged_is_made_anew(run, encoded):
    labels = read_labels(run)
    for spoil in (lambda: None, lambda: (run.path / FILE).write_bytes(b"x" * 100)):
        spoil()
        Meanings(run, str(ENCODER)).similarity(labels, "x")
    assert len(encoded) == 8
    other = Meanings(run, "nobody/has-this")
    with pytest.raises(AutointerpError, match="cannot be loaded"):
        other.similarity(labels, "x")


def test_until_it_is_ready_one_is_told_how_far_it_is(run, encoded, monkeypatch):
    monkeypatch.setattr(meaning, "_WAIT_S", 0.0)
    labels = read_labels(run)
    meanings = Meanings(run, str(ENCODER))
    with pytest.raises(NotReady, match="0% done") as caught:
        meanings.similarity(labels, "x")
    assert caught.value.progress == 0
    monkeypatch.setattr(meaning, "_WAIT_S", 60.0)
    assert meanings.similarity(labels, "x").shape == (labels.total,)


def test_a_client_is_told_to_ask_again_until_it_is_ready(run, encoded, monkeypatch):
    monkeypatch.setattr(meaning, "_WAIT_S", 0.0)
    may_begin = threading.Event()
    work_out = Meanings._work_out
    monkeypatch.setattr(
        Meanings, "_work_out", lambda *given: (may_begin.wait(60), work_out(*given))[1]
    )
    with serving(run, embedding_model=str(ENCODER)) as client:

        def asked():
            queries = {
                "/api/features": {"meaning": "x"},
                "/api/search": {"by": "meaning", "q": "x"},
            }
            return [client.get(path, params=query) for path, query in queries.items()]

        for reply in asked():
            assert reply.status_code == 202
            assert int(reply.headers["Retry-After"]) > 0
            assert reply.json()["progress"] == 0
            assert "0% done" in reply.json()["detail"]
        may_begin.set()
        while {reply.status_code for reply in asked()} != {200}:
            assert {reply.status_code for reply in asked()} <= {200, 202}
        assert client.get("/api/run").json()["meaning_ready"] == 1


def test_what_is_done_is_kept_when_the_server_stops(run, encoded, monkeypatch):
    monkeypatch.setattr(meaning, "_BATCH", 2)
    labels = read_labels(run)
    meanings = Meanings(run, str(ENCODER))
    monkeypatch.setattr(meaning, "one_line", lambda text: meanings.close() or text)
    monkeypatch.setattr(meaning, "_LAST_S", 0.0)
    with pytest.raises(ServerStopping):
        meanings.similarity(labels, "x")
    assert len(encoded) == 2
    monkeypatch.setattr(meaning, "one_line", one_line)
    assert np.isfinite(Meanings(run, str(ENCODER)).similarity(labels, "x")[:5]).all()
    assert sorted(encoded) == sorted(set(LABELS[:5]))


def test_without_the_extra_it_says_what_to_install(run, monkeypatch):
    monkeypatch.setattr(meaning.importlib.util, "find_spec", lambda name: None)
    with serving(run, embedding_model=str(ENCODER)) as client:
        assert client.get("/api/run").json()["meaning"] is False
        reply = client.get("/api/search", params={"q": "x", "by": "meaning"})
        assert reply.status_code == 501
        assert "pip install 'autointerp[embed]'" in reply.json()["detail"]
