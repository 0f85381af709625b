"""scripts/audit_scores.py: what a claim is, and that a broken one fails the audit."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def findings(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from audit import findings

    return findings


def test_a_claim_holds_within_its_bounds_and_never_without_a_value(findings):
    assert findings.Claim("x", 0.92, 0.92, 1.0).holds
    assert not findings.Claim("x", 0.919, 0.92, 1.0).holds
    assert not findings.Claim("x", math.nan, -math.inf, math.inf).holds
    assert findings.Claim("x", 2, 0, 1).line().startswith("FAILS: x: 2")


def test_a_table_says_what_is_missing(findings):
    claim = findings.Claim("covered", 0.95, 0.92, 1)
    table = findings.Findings("A", "What.", ("a", "b"), [("x", 0.5), ("y", math.nan)], [claim])
    assert table.markdown().splitlines() == [
        *("## A", "", "What.", "", "| a | b |", "|---|---|", "| x | 0.500 |", "| y | – |", ""),
        "- holds: covered: 0.95 in [0.92, 1]",
    ]


@pytest.mark.parametrize(("value", "status"), [(0.95, 0), (0.5, 1)])
def test_the_exit_status_says_whether_all_claims_hold(tmp_path, value, status):
    (tmp_path / "audit").mkdir()
    for name in ("audit_scores.py", "audit/__init__.py", "audit/findings.py"):
        (tmp_path / name).write_bytes((SCRIPTS / name).read_bytes())
    (tmp_path / "audit" / "toy.py").write_text(
        "from audit.findings import Claim, Findings\n"
        "def audit(short, seed):\n"
        f"    return [Findings('T', 'a', ('b',), [(1,)], [Claim('c', {value}, .9, 1)])]\n"
    )
    command = [sys.executable, str(tmp_path / "audit_scores.py"), "--out", str(tmp_path / "o.md")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    assert "## T" in (tmp_path / "o.md").read_text()
    done = subprocess.run([*command, "--only", "none"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "the experiments are toy" in done.stderr
