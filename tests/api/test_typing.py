"""What `mypy --strict` makes of a user's file."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE = Path("tests/data/user_file.py")


def test_a_user_sees_types():
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir=.mypy_cache/user", str(FILE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in ran.stdout.splitlines() if line.startswith(str(FILE))]
    revealed = [found[1] for line in lines if (found := re.search('Revealed type is "(.*)"', line))]
    assert revealed == [
        "autointerp.coders.given_coder.GivenCoder",
        "autointerp.results.RunResults",
        "autointerp.results.RunResults",
        "autointerp.results.RunResults",
        "pandas.core.frame.DataFrame",
        "str | None",
        "float | None",
        "autointerp.errors.EndpointUnreachableError",
    ]
    source = (ROOT / FILE).read_text().splitlines()
    wrong = {number for number, line in enumerate(source, 1) if line.endswith("# wrong")}
    assert {int(line.split(":")[1]) for line in lines if ": error:" in line} == wrong


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "autointerp" / "py.typed").is_file()
