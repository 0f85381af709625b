"""The JSON API over a real server on loopback: what it gives, what it refuses."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pyarrow.parquet as pq
import pytest

import autointerp
from autointerp.labeling.labeler import Draft
from autointerp.runs.directory import Run
from autointerp.serve import writing
from autointerp.tables.edits import read_edits
from tests.serve.conftest import HEADERS, TOKEN, serving
from tests.support import scripted
from tests.support.fake_server import FakeServer
from tests.support.hostile import EVERYTHING

JSON = {"Content-Type": "application/json"}


def ok(reply, status=200):
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    return json.loads(reply.text, parse_constant=pytest.fail)


def refused(reply, status):
    assert reply.status_code == status, reply.text
    (key, line), *others = json.loads(reply.text).items()
    assert (key, others) == ("detail", [])
    assert line.isprintable()
    assert "Traceback" not in reply.text
    return line


def test_what_is_shown_is_what_the_tables_hold(client, copied, planted):
    info = ok(client.get("/api/run"))
    table = autointerp.load_labels(copied.path, edits=True)
    assert [c["name"] for c in info["columns"]] == list(table.columns)
    types = {c["name"]: c["type"] for c in info["columns"]}
    assert [types[n] for n in ("feature", "density", "label", "polysemantic", "flags")] == [
        *("integer", "number", "text", "boolean", "list")
    ]
    assert (info["name"], info["sae"], info["total"]) == ("run", "planted", 14)
    assert info["asks"] is None
    assert info["default_metric"] == "detection_balanced_accuracy"
    assert ok(client.get("/api/overview"))["counts"][0] == {"name": "labeled", "n": 12}

    rows = ok(client.get("/api/features"))["rows"]
    assert [row["label"] for row in rows] == table["label"].astype(object).where(
        table["label"].notna(), None
    ).tolist()
    assert [row["density"] for row in rows] == table["density"].tolist()
    query = {"filter": ["status:eq:labeled", "density:gt:0"], "sort": "density", "limit": 1}
    (first,) = ok(client.get("/api/features", params=query))["rows"]
    assert first["density"] == table.loc[table["status"] == "labeled", "density"].min()
    word = planted.words[4][0]
    found = ok(client.get("/api/search", params={"q": word}))
    assert all(word in one["label"] for one in found)
    assert 4 in [one["feature"] for one in found]

    page = ok(client.get("/api/features/4"))
    windows = ok(client.get("/api/features/4/windows", params={"kind": "top"}))
    stored = autointerp.load_windows(copied.path, 4)
    assert len(windows) == (stored["kind"] == "top").sum()
    assert page["statistics"]["n_active"] == table["n_active"][4]
    assert ok(client.get("/api/features/4/exchanges")) == []
    whole = ok(client.get(f"/api/contexts/{windows[0]['context']}"))["tokens"]
    assert len(whole) == 48
    begin = windows[0]["start"]
    assert whole[begin : begin + len(windows[0]["tokens"])] == windows[0]["tokens"]

    assert client.get("/").headers["content-type"].startswith("text/html")
    described = client.get("/api").text
    for path in ok(client.get("/api/openapi.json"))["paths"]:
        assert path in described
    assert "http" not in described.replace("http-equiv", "")


def test_what_is_not_there_is_said(client):
    assert "feature 99" in refused(client.get("/api/features/99"), 404)
    assert "the cache" in refused(client.get("/api/contexts/400"), 404)
    refused(client.get("/nowhere"), 404)
    assert "limit" in refused(client.get("/api/features", params={"limit": 1001}), 422)
    assert "no column" in refused(client.get("/api/features", params={"sort": "x"}), 422)
    refused(client.get("/api/features/1e9"), 422)
    for text in EVERYTHING.values():
        text = text[:500].encode(errors="replace").decode()
        query = {"filter": f"label:eq:{text}", "search": f"x{text}'%_\0"}
        assert ok(client.get("/api/features", params=query))["matched"] == 0


def test_a_run_without_labels_is_opened_and_one_without_its_cache_shown(copied):
    copied.labels.unlink()
    settings = copied.record().config
    copied.update(config=settings | {"cache": None, "of another version": 1})
    with serving(copied) as client:
        assert ok(client.get("/api/run"))["total"] == 0
        assert "labels.parquet is missing" in refused(client.get("/api/features"), 404)
        assert "no activation cache" in refused(client.get("/api/contexts/0"), 404)
        assert ok(client.get("/api/features/4"))["row"] == {}


def test_only_this_machines_own_pages_get_through(client):
    host = client.base_url.netloc.decode()
    port = client.base_url.port
    for name in (f"localhost:{port}", f"LOCALHOST:{port}", f"[::1]:{port}"):
        ok(client.get("/api/run", headers={"Host": name}))
    for name in ("evil.example", f"evil.example:{port}", "127.0.0.1", "127.0.0.1:1", ""):
        assert "Host" in refused(client.get("/api/run", headers={"Host": name}), 421)

    vote = {"kind": "vote", "author": "a", "vote": 1}
    for origin in ("http://evil.example", f"https://{host}", "null", "http://127.0.0.1"):
        reply = client.post("/api/features/1/edits", json=vote, headers={"Origin": origin})
        assert "other sites" in refused(reply, 403)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "text/json", ""):
        sent = {"content": json.dumps(vote), "headers": {"Content-Type": kind}}
        refused(client.post("/api/features/1/edits", **sent), 415)
    refused(client.post("/api/features/1/label"), 415)
    assert votes_of(client) == 0
    ours = {"Origin": f"http://{host}"}
    ok(client.post("/api/features/1/edits", json=vote, headers=ours), 201)
    assert votes_of(client) == 1

    for path in ("/", "/api/run", "/nowhere", "/api"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers


def test_the_token_lets_in_and_nothing_else_does(client):
    cookie = f"autointerp-{client.base_url.port}"
    right = [
        {"headers": HEADERS},
        {"headers": {"Authorization": f"bearer  {TOKEN}"}},
        {"headers": {"Cookie": f"other=1; {cookie}={TOKEN}"}},
        {"params": {"token": TOKEN}},
    ]
    wrong = [
        {},
        {"headers": {"Authorization": f"Basic {TOKEN}"}},
        {"headers": {"Authorization": TOKEN}},
        {"headers": {"Cookie": f"autointerp={TOKEN}"}},
        {"headers": {"Cookie": f"{cookie}={TOKEN}x"}},
        {"headers": {"Cookie": f"{cookie}="}},
        {"params": {"token": TOKEN[:-1]}},
        {"params": {"token": "é"}},
        {"headers": {"X-Token": TOKEN}},
    ]
    with httpx.Client(base_url=client.base_url) as other:
        for path in ("/", "/api", "/api/run", "/api/openapi.json", "/nowhere"):
            for sent in wrong:
                reply = other.get(path, **sent)
                assert "Bearer TOKEN" in refused(reply, 401)
                assert reply.headers["www-authenticate"] == "Bearer"
                assert reply.headers["x-frame-options"] == "DENY"
                assert "set-cookie" not in reply.headers
        vote = {"kind": "vote", "author": "a", "vote": 1}
        for sent in wrong:
            refused(other.post("/api/features/1/edits", json=vote, **sent), 401)
    assert votes_of(client) == 0
    for sent in right:
        with httpx.Client(base_url=client.base_url) as other:
            reply = other.get("/api/run", **sent)
            assert ok(reply)["total"] == 14
            set_by_address = reply.headers.get("set-cookie")
            if "params" in sent:
                assert set_by_address == f"{cookie}={TOKEN}; Path=/; HttpOnly; SameSite=Strict"
                ok(other.get("/api/overview"))  # the cookie does
            else:
                assert set_by_address is None
    described = ok(client.get("/api/openapi.json"))
    assert "Authorization: Bearer TOKEN" in described["info"]["description"]
    assert described["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"


def test_without_a_token_none_is_asked_for(copied):
    with serving(copied, token=None) as client, httpx.Client(base_url=client.base_url) as other:
        ok(other.get("/api/run"))
        assert "securitySchemes" not in ok(other.get("/api/openapi.json"))["components"]


def votes_of(client):
    return ok(client.get("/api/features", params={"filter": "votes:gt:0"}))["matched"]


def test_edits_are_kept_and_shown_at_once(client, copied):
    before = pq.read_table(copied.labels)
    label = {
        "kind": "label",
        "author": "Ada\n",
        "label": " a\u202e <script>\0label ",
        "reason": "r",
    }
    made = ok(client.post("/api/features/4/edits", json=label), 201)
    assert (made["author"], made["label"]) == ("Ada", "a <script> label")
    note = EVERYTHING["json string"] + "\n\u202e"
    ok(client.post("/api/features/4/edits", json=note_of(note)), 201)
    for author in ("Ada", "Bob"):
        vote = {"kind": "vote", "author": author, "vote": -1}
        ok(client.post("/api/features/4/edits", json=vote), 201)
    (row,) = ok(client.get("/api/features", params={"filter": "edited:eq:true"}))["rows"]
    assert (row["feature"], row["label"], row["votes"]) == (4, "a <script> label", -2)
    assert row["notes"] == [note]
    assert row["original_label"] == before["label"][4].as_py()
    assert pq.read_table(copied.labels).equals(before)
    assert [edit.kind for edit in read_edits(copied, 4)] == ["label", "note", "vote", "vote"]


def note_of(text):
    return {"kind": "note", "author": "Ada", "text": text}


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"kind": "label", "author": "a"}, "label.label: Field required"),
        (
            {"kind": "label", "author": "a", "label": "\u200b\x07 "},
            "must contain a visible character",
        ),
        ({"kind": "label", "author": " ", "label": "x"}, "must contain a visible character"),
        ({"kind": "label", "author": "a", "label": "x" * 301}, "at most 300"),
        ({"kind": "vote", "author": "a", "vote": 2}, "vote"),
        ({"kind": "vote", "author": "a", "vote": 1, "label": "x"}, "label: Extra inputs"),
        ({"kind": "note", "author": "a", "text": "\ud800"}, "text"),
        ({"kind": "model_label", "author": "a", "label": "x"}, "expected tags"),
        ({"kind": "vote", "author": "a", "vote": 1, "time": "now"}, "time"),
        ([], "valid"),
    ],
)
def test_no_edit_that_is_none(client, copied, edit, said):
    body = json.dumps(edit)
    assert said in refused(client.post("/api/features/4/edits", content=body, headers=JSON), 422)
    refused(client.post("/api/features/4/edits", content=body[:-1], headers=JSON), 422)
    assert read_edits(copied) == []


def test_an_edit_needs_a_feature_of_the_table(client):
    refused(client.post("/api/features/14/edits", json=note_of("x")), 404)
    refused(client.post("/api/features/14/label", json={}), 404)


def test_many_edits_at_once_are_all_kept(client, copied):
    def send(i):
        return client.post(f"/api/features/{i % 3}/edits", json=note_of(str(i))).status_code

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(send, range(24))) == {201}
    assert sorted(int(edit.text) for edit in read_edits(copied)) == list(range(24))


def test_a_label_from_the_model_one_at_a_time(copied, monkeypatch):
    asked, go_on = threading.Event(), threading.Event()

    def relabel(run, feature, own):
        asked.set()
        assert go_on.wait(30)
        return Draft(feature, "labeled", "m", label="new", confidence=0.5, prompt_tokens=7)

    monkeypatch.setattr(writing, "relabel", relabel)
    own = {"model": "m", "base_url": "http://127.0.0.1:9/v1"}
    with serving(copied, **own) as client, ThreadPoolExecutor(1) as thread:
        first = thread.submit(client.post, "/api/features/4/label", json={})
        assert asked.wait(30)
        with httpx.Client(base_url=client.base_url, headers=HEADERS) as other:
            said = refused(other.post("/api/features/5/label", json={}), 409)
        go_on.set()
        made = ok(first.result(), 201)
    assert "wait for it" in said
    assert (made["kind"], made["author"], made["label"]) == ("model_label", "m", "new")
    (kept,) = read_edits(copied)
    assert (kept.feature, kept.label, kept.prompt_tokens) == (4, "new", 7)


def test_the_model_named_to_serve_is_asked_and_what_it_was_asked_is_shown(
    cli, planted, tmp_path, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with FakeServer(scripted.answer) as model:
        flags = ["--model", "test-model", "--base-url", model.url, "--features", "3,4"]
        assert cli("run", *flags, *planted.flags(tmp_path / "run"))[0] == 0
        own = {"model": "test-model", "base_url": model.url}
        with serving(Run(tmp_path / "run"), **own) as client:
            assert ok(client.get("/api/run"))["asks"] == f"test-model at {model.url}"
            first = ok(client.get("/api/features/4/exchanges"))
            made = ok(client.post("/api/features/4/label", json={}), 201)
            again = ok(client.get("/api/features/4/exchanges"))
            (row,) = ok(client.get("/api/features", params={"filter": "edited:eq:true"}))["rows"]
    assert (made["author"], made["label"]) == ("test-model", planted.words[4][0])
    assert made["prompt_tokens"] > 0
    assert (row["feature"], row["label"]) == (4, made["label"])
    assert len(again) == len(first) + 1
    assert [e["about"] == "label:4" for e in again[:3]] == [True, True, False]
    assert made["label"] in again[0]["text"]
    assert "Feature 1 " in again[0]["messages"][1]["content"]


def test_without_a_model_named_to_serve_there_is_no_label(client, copied):
    assert "serve --model NAME" in refused(client.post("/api/features/4/label", json={}), 409)
    assert read_edits(copied) == []


def test_a_bug_shows_no_traceback(client, monkeypatch):
    def broken(run, feature):
        raise RuntimeError("secret")

    monkeypatch.setattr("autointerp.serve.served.FeaturePages.page", broken)
    reply = client.get("/api/features/4")
    assert "bug" in refused(reply, 500)
    assert "secret" not in reply.text
    assert reply.headers["x-frame-options"] == "DENY"
