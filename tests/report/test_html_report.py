"""A report holds what the pages hold, in one file that nothing in it can break out of."""

import asyncio
import base64
import gzip
import hashlib
import json
import re
import shutil
from dataclasses import asdict
from html.parser import HTMLParser

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autointerp.llm.journal.journal import Journal, Received
from autointerp.llm.wire.reply import Usage
from autointerp.llm.wire.request import ChatRequest
from autointerp.report.feature import FeaturePages
from autointerp.report.html_report import write_report
from autointerp.report.page import page_html
from autointerp.runs.directory import Run
from tests.support.hostile import HOSTILE


class _Elements(HTMLParser):
    """What a browser's parser makes of a page: elements, and what stands in script and style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, str] = {"": ""}
        self._open = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open = dict(attrs).get("id") or tag
        self.inside.setdefault(self._open, "")

    def handle_endtag(self, tag):
        self._open = ""

    def handle_data(self, data):
        self.inside[self._open] += data


def embedded(html: str) -> dict:
    return json.loads(_Elements(html).inside["data"])


def unpacked(text: str) -> object:
    return json.loads(gzip.decompress(base64.b64decode(text)))


def as_json(value: object) -> object:
    return json.loads(json.dumps(value))


def test_a_report_holds_the_pages_of_the_chosen_features(cli, finished, tmp_path):
    out = tmp_path / "there" / "report.html"
    code, said, err = cli("report", str(finished.path), "--features", "0-2,9", "--out", str(out))
    assert code == 0, err
    assert said.startswith(f"4 features in {out}")
    data = embedded(out.read_text())
    assert [row["feature"] for row in data["rows"]] == [0, 1, 2, 9]
    pages = FeaturePages(finished)
    for feature in (0, 1, 2, 9):
        assert unpacked(data["pages"][str(feature)]) == as_json(asdict(pages.page(feature)))
    assert sum(count["n"] for count in data["overview"]["counts"]) == 14  # of the whole run


def test_without_a_choice_all_of_a_few_features_have_a_page(cli, finished, tmp_path):
    copied = tmp_path / "run"
    shutil.copytree(finished.path, copied)
    assert cli("report", str(copied))[0] == 0
    assert len(embedded((copied / "report.html").read_text())["pages"]) == 14


def test_hostile_labels_stay_inside_the_data(cli, finished, tmp_path):
    copied = tmp_path / "run"
    shutil.copytree(finished.path, copied)
    run = Run(copied)
    table = pq.read_table(run.labels)
    texts = [*HOSTILE.values(), "</script><script>alert(1)</script>", "<!--<script>"]
    for first in range(0, len(texts), len(table)):
        labels = (texts[first : first + len(table)] * len(table))[: len(table)]
        column = table.schema.get_field_index("label")
        pq.write_table(table.set_column(column, "label", pa.array(labels)), run.labels)
        assert cli("report", str(copied))[0] == 0
        found = _Elements(run.path.joinpath("report.html").read_text())
        assert [tag for tag, _ in found.tags].count("script") == 2
        assert "img" not in [tag for tag, _ in found.tags]
        assert [row["label"] for row in json.loads(found.inside["data"])["rows"]] == labels


def test_a_reply_with_half_a_character_is_in_the_report(finished, tmp_path):
    run = Run(tmp_path / "run")
    shutil.copytree(finished.path, run.path)
    asked = ChatRequest("m", ({"role": "user", "content": "?"},), 9, about=("label:1",))
    raw = json.dumps({"choices": [{"message": {"content": "half \ud83d"}}]}).encode()
    journal = Journal.open(run.journal)
    asyncio.run(journal.put(Received("key", "m", raw, Usage(1, 1, 0), None, asked=asked)))
    journal.close()
    write_report(run, "1", tmp_path / "report.html")
    (exchange,) = unpacked(embedded((tmp_path / "report.html").read_text())["exchanges"]["1"])
    assert exchange["text"] == "half \ud83d"


@pytest.mark.parametrize("data", [None, {"rows": ["</script>", "{{ script }}"]}])
def test_the_policy_allows_the_page_its_own_script_and_style_alone(data):
    html, policy = page_html(data)
    found = _Elements(html)
    for tag in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(found.inside[tag].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    meta = next(a["content"] for t, a in found.tags if a.get("http-equiv"))
    assert policy.startswith(meta)
    assert "unsafe" not in policy
    # Nothing from elsewhere is named, so nothing is asked for.
    addresses = set(re.findall(r"https?://[^\s\"'`]+", html))
    assert addresses == {"http://www.w3.org/2000/svg"}


def test_no_text_is_ever_parsed_as_html():
    html, _ = page_html(None)
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert way not in html


def test_a_report_that_cannot_be_written(cli, finished, tmp_path):
    file = tmp_path / "file"
    file.touch()
    out = file / "report.html"
    code, _, err = cli("report", str(finished.path), "--out", str(out))
    assert code == 2
    assert err.strip().splitlines()[-1].startswith(f"autointerp: {out} cannot be written")
