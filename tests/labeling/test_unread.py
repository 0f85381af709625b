"""Runs whose labeler or judge cannot be read for a while, on the command line."""

import pyarrow.parquet as pq
import pytest

from tests.support import scripted
from tests.support.fake_server import FakeServer


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-secret")


def flags_of(server, planted, out):
    flags = ["--model", "test-model", "--base-url", server.url, "--features-per-request", "4"]
    flags += ["--input-price", "1", "--output-price", "1", "--max-concurrency", "1"]
    return [*flags, *planted.flags(out)]


def labels_of(out):
    return pq.read_table(out / "labels.parquet").to_pandas().set_index("feature")


def test_a_labeler_that_says_nothing_pauses_the_run_and_all_are_labeled_later(
    cli, planted, tmp_path
):
    out = tmp_path / "out"
    with FakeServer(lambda _: "") as server:
        flags = flags_of(server, planted, out)
        assert cli("collect", *flags)[0] == 0
        code, _, said = cli("label", *flags)
        assert code != 0
        assert "replies could be read" in said
        sent = len(server.requests)
        # Asked in ever smaller groups, and alone twice, it would be 33.
        assert 20 <= sent < 33
        server.respond = scripted.answer
        assert cli("label", *flags)[0] == 0
        # 12 features that can be labeled, 4 a request.
        assert len(server.requests) == sent + 3
    assert labels_of(out)["status"].value_counts()["labeled"] == 12


def test_features_that_failed_are_asked_again_and_the_others_are_free(cli, planted, tmp_path):
    out = tmp_path / "out"
    word = planted.words[0][0]

    def answer(request):
        of_first = f"<<{word}>>" in request["messages"][1]["content"].replace("<< ", "<<")
        return "no JSON" if of_first else scripted.answer(request)

    with FakeServer(answer) as server:
        flags = flags_of(server, planted, out)
        assert cli("collect", *flags)[0] == 0
        assert cli("label", *flags)[0] == 0
        assert labels_of(out)["status"].value_counts().to_dict()["failed"] == 1
        sent = len(server.requests)
        server.respond = scripted.answer
        code, _, said = cli("label", *flags)
        assert code == 0
        assert "retrying 1 feature that failed ($" in said
        assert len(server.requests) == sent + 1
    labels = labels_of(out)
    assert labels["status"].value_counts()["labeled"] == 12
    bill = sum(len(body) // 4 for body in server.bodies)
    assert labels["prompt_tokens"].sum() == bill


def test_judgments_that_could_not_be_read_are_asked_again_and_the_others_are_free(
    cli, planted, tmp_path
):
    out = tmp_path / "out"

    def answer(request):
        described = request["messages"][1]["content"].partition("\n")[0].split()[1:]
        judged = set(described) == set(planted.words[0])
        return "I would say yes" if judged else scripted.answer(request)

    with FakeServer(answer) as server:
        flags = [*flags_of(server, planted, out), "--scorers", "detection", "--null-share", "0"]
        flags += ["--judge-items", "20"]
        code, _, said = cli("run", *flags)
        assert code == 0
        assert "1 judgment failed" in said
        before = pq.read_table(out / "scores.parquet").num_rows
        sent = len(server.requests)
        server.respond = scripted.answer
        code, _, said = cli("run", *flags)
        assert code == 0
        assert "retrying 1 judgment that failed, $" in said
        asked = server.requests[sent:]
        assert asked
        assert len(asked) < sent / 2
        assert all("Description: " in r["messages"][1]["content"] for r in asked)
        assert len({r["messages"][1]["content"].splitlines()[0] for r in asked}) == 1
        assert pq.read_table(out / "scores.parquet").num_rows >= before
        sent = len(server.requests)
        assert cli("run", *flags)[0] == 0
        assert len(server.requests) == sent
    assert labels_of(out)["detection_balanced_accuracy"].notna().sum() == 12
