"""A key is nowhere but in the requests: a server and files plant it everywhere else."""

import gzip
import io
import json
import re
import sqlite3
import subprocess
import sys
import zlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp import secrets
from autointerp.errors import AutointerpError
from autointerp.runs.directory import Run
from autointerp.secrets import hide, hide_environment, masked, masked_errors, masked_stream
from tests.support.quoting_server import (
    QuotingServer,
    completion,
    error,
    everywhere,
    forms_of,
    leaks,
)

PART = "Zq9tPL4nt3dK3y"  # no encoding but base64 changes it
KEY = f"sk-\"p\\{PART}/k+e=y&%41<7>'~"
VARIABLE = "SOME_VARIABLE"


@pytest.fixture(autouse=True)
def _own_secrets(monkeypatch):
    monkeypatch.setattr(secrets, "_forms", {})
    monkeypatch.setenv(VARIABLE, KEY)
    monkeypatch.setattr("autointerp.llm.limits.retry.FIRST_BACKOFF_S", 0.001)


keys = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=7, max_size=40)


@given(keys, st.sampled_from(range(len(forms_of(KEY)))))
def test_every_form_of_a_key_is_masked_and_nothing_else(key, form):
    secrets._forms.clear()
    said = f"é «{forms_of(key)[form]}» 東"
    assert masked(said) == said
    hide(key)
    shown = masked(said)
    assert shown.startswith("é «")
    assert shown.endswith("» 東")
    assert not leaks(shown, key)
    assert "[key]" in shown
    assert masked(shown) == shown


@given(st.text(max_size=60))
def test_a_text_without_the_key_stays_as_it_is(text):
    secrets._forms.clear()
    hide(KEY)
    assert masked(text) == text


@given(keys)
def test_json_with_a_key_in_it_stays_json(key):
    secrets._forms.clear()
    said = {"a": f"x {key} y", f"is {key}": [key, "z\n" + key]}
    hide(key)
    # A key that ends in a backslash may take the next escape with it.
    if not key.endswith("\\"):
        assert not leaks(str(json.loads(masked(json.dumps(said)))), key)


def test_short_values_are_words_and_not_secrets():
    for value in ("", "none", "EMPTY", "ollama"):
        hide(value)
    assert masked("none EMPTY ollama") == "none EMPTY ollama"


def test_the_environment_s_keys_are_known_by_name():
    hide_environment(
        {
            "OPENAI_API_KEY": " of-the-endpoint\n",
            "HF_TOKEN": "of-the-hub",
            "https_proxy": "http://me:of%2Fthe-proxy@localhost:1",
            "HOME": "/home/nobody",
        }
    )
    said = "of-the-endpoint of-the-hub of/the-proxy /home/nobody"
    assert masked(said) == "[key] [key] [key] /home/nobody"


def test_an_error_loses_its_key_and_so_do_those_before_it():
    hide(KEY)
    assert not leaks(str(AutointerpError(f"no such key: {KEY}")), KEY)
    with pytest.raises(ValueError, match="key") as raised:
        _fail_in_two_steps()
    assert raised.value.args == ("a", "b [key]")
    assert raised.value.__cause__.args == ("[key]",)


@masked_errors()
def _fail_in_two_steps():
    try:
        raise KeyError(KEY)
    except KeyError as cause:
        raise ValueError("a", f"b {KEY}") from cause


def test_a_stream_masks_what_is_written_and_is_a_stream_still():
    hide(KEY)
    under = io.StringIO()
    stream = masked_stream(under)
    assert masked_stream(stream) is stream
    print("a", KEY, file=stream, flush=True)
    stream.writelines([KEY, "\n"])
    assert under.getvalue() == "a [key]\n[key]\n"
    assert not stream.isatty()


def test_a_traceback_of_a_bug_has_no_key(tmp_path):
    script = tmp_path / "bug.py"
    script.write_text(
        "import os, sys\n"
        "from autointerp.cli import main as cli\n"
        "def broken(*_, **__):\n"
        "    raise RuntimeError('bug with ' + os.environ['OPENAI_API_KEY'])\n"
        "cli.app = broken\n"
        "cli.main()\n"
    )
    environment = {"OPENAI_API_KEY": KEY, "PYTHONPATH": ":".join(sys.path)}
    ran = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert "RuntimeError: bug with [key]" in ran.stderr
    assert not leaks(ran.stderr + ran.stdout, KEY)


@pytest.mark.parametrize(
    ("models", "completions"),
    [
        (lambda key: error(401, f"Invalid API key: {key}"), None),
        (lambda key: error(403, "x" * 280 + key), None),  # cut in the middle of the key
        (lambda key: (200, {}, b"[" * 200_000), lambda key: error(403, f"no access with {key}")),
        (lambda key: (404, {}, key.encode()), lambda key: error(500, f"crash with {key}")),
        (lambda key: (200, {}, b"{}"), lambda key: (200, {}, f"<html>{key}".encode())),
        (lambda key: (200, {}, b"{}"), lambda key: error(404, f"no such model for {key}")),
        (lambda key: (200, {}, b"{}"), lambda key: error(404, "\u200b".join(key))),
    ],
)
@pytest.mark.parametrize("command", ["run", "doctor"])
def test_what_the_check_of_an_endpoint_quotes_is_masked(
    cli, planted, tmp_path, command, models, completions
):
    def answer(_number, key, _request):
        return completions(key)

    with QuotingServer(answer, models) as server:
        flags = ["--model", "test-model", "--base-url", server.url, "--api-key-env", VARIABLE]
        code, printed, said = cli(command, *flags, *planted.flags(tmp_path / "run"))
    assert code == 2
    assert set(server.quoted) == {KEY}
    assert not leaks(printed + said, KEY)
    assert KEY[:8] not in said


def files_of(folder: Path) -> dict[str, str]:
    """Everything that is in the files of a folder, unpacked, as text."""
    texts = {}
    for path in (p for p in folder.rglob("*") if p.is_file()):
        raw = path.read_bytes()
        texts[str(path)] = raw.decode("latin-1")
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            texts[f"{path} rows"] = str(table.to_pylist()) + str(table.schema.metadata)
        if path.suffix == ".gz":
            texts[f"{path} unpacked"] = gzip.decompress(raw).decode()
        if path.suffix == ".html":
            packed = re.findall(r'"(H4sI[A-Za-z0-9+/=]+)"', raw.decode())
            texts[f"{path} pages"] = "".join(
                gzip.decompress(secrets.base64.b64decode(part)).decode() for part in packed
            )
    journal = folder / "journal.sqlite"
    if journal.is_file():
        connection = sqlite3.connect(journal)
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        for (name,) in names.fetchall():
            rows = connection.execute(f"SELECT * FROM {name}").fetchall()
            values = [value for row in rows for value in row]
            texts[f"{journal} {name}"] = "\n".join(
                zlib.decompress(v).decode() if isinstance(v, bytes) and v else str(v)
                for v in values
            )
        connection.close()
    return texts


def test_a_key_planted_everywhere_is_nowhere(cli, planted, tmp_path, monkeypatch):
    serve = pytest.importorskip("tests.serve.conftest")
    out = tmp_path / "run"
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    template = Path("prompts/label.jinja").read_text()
    begin = "{% block system -%}"
    assert begin in template
    with_key = template.replace(begin, begin + "{% raw %}" + KEY + "{% endraw %} ")
    (prompts / "label.jinja").write_text(with_key)
    config = tmp_path / "run.toml"
    config.write_text(f"extra_body = {json.dumps(json.dumps({'user': KEY}))}\n")
    said = ""

    def do(*command):
        nonlocal said
        code, printed, complained = cli(*command)
        said += printed + complained
        return code

    with QuotingServer(everywhere) as server:
        flags = ["--model", "test-model", "--base-url", server.url, "--api-key-env", VARIABLE]
        flags += ["--config", str(config), "--prompts", str(prompts), "--features", "0-6"]
        flags += ["--features-per-request", "2", "--scorers", "detection", "--concurrency", "2"]
        assert do("run", *flags, *planted.flags(out)) == 0, said
        assert do("doctor", *flags, *planted.flags(out)) in (0, 1, 2)
        assert do("prompt", "show", "label", *flags, *planted.flags(out)) == 0
    assert len(server.quoted) > 15
    assert set(server.quoted) == {KEY}
    run = Run(out)
    run.note(f"a line with {KEY}")
    with serve.serving(run) as client:
        note = {"kind": "note", "author": "a", "text": f"my key is {KEY}"}
        assert client.post("/api/features/3/edits", json=note).status_code == 201
        pages = [client.get("/api/overview"), client.get("/api/run"), client.get("/api/features")]
        pages += [client.get(f"/api/features/{n}") for n in range(7)]
        pages += [client.get(f"/api/features/{n}/exchanges") for n in range(7)]
        pages += [client.get("/api/features", params={"filter": f"{KEY}:eq:1"})]
        said += "".join(page.text for page in pages)
    for command in (["labels"], ["scores"], ["show", "3"], ["journal", "export"]):
        assert do(*command, "--run", str(out)) == 0
    assert do("report", str(out)) == 0
    for name in ("jsonl", "csv"):
        assert do("export", name, "--run", str(out)) == 0

    assert "[key]" in said
    assert not leaks(said, KEY)
    assert PART not in said
    files = files_of(out)
    assert any("[key]" in text for path, text in files.items() if path.endswith(" replies"))
    assert any("[key]" in text for path, text in files.items() if path.endswith(" rows"))
    assert {path: found for path, text in files.items() if (found := leaks(text, KEY))} == {}
    assert [path for path, text in files.items() if PART in text] == []


def test_what_an_earlier_version_stored_is_masked_where_it_is_shown(cli, finished, monkeypatch):
    hide(KEY)
    body = completion("x", KEY).decode()
    assert leaks(json.dumps(body), KEY)
    monkeypatch.setattr(
        "autointerp.llm.journal.journal_file.export",
        lambda _path: iter([{"reply": body, "about": []}]),
    )
    code, printed, _ = cli("journal", "export", "--run", str(finished.path))
    assert code == 0
    assert "[key]" in printed
    assert PART not in printed


def test_an_address_with_a_password_is_not_quoted(cli):
    for url in (
        "http://:hunter22@h/v1",
        "http://a:hunter22@h/v1",
        "a:hunter22@h",
        "http://h/#hunter22",
    ):
        code, _, said = cli("label", "--model", "m", "--base-url", url)
        assert code == 2
        assert "base_url must not contain a key" in said
        assert "hunter22" not in said
