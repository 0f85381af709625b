"""What `run.json` says a run was made with: a stage alone leaves what the others recorded."""

from autointerp.runs.directory import Run


def test_scoring_alone_keeps_what_the_evidence_and_the_labels_were_made_with(
    cli, planted, tmp_path
):
    out = tmp_path / "out"
    flags = [*planted.flags(out), "--features", "0-5", "--label-top", "3"]
    assert cli("run", *flags)[0] == 0
    before = Run(out).record().config
    assert (before["features"], before["label_top"]) == ("0-5", 3)
    code, _, said = cli("score", *planted.flags(out), "--detection-windows", "6")
    assert code == 0, said
    after = Run(out).record().config
    assert after["detection_windows"] == 6
    for name in ("features", "tokens", "window_length", "label_top", "split"):
        assert after[name] == before[name], name
