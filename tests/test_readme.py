import re
from pathlib import Path

import pytest

from tests.support import scripted
from tests.support.fake_server import FakeServer

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.usefixtures("planted")
def test_the_pandas_queries_of_the_readme_work(cli, planted, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    out = tmp_path / "outputs" / "demo"
    with FakeServer(scripted.answer) as server:
        flags = ["--model", "test-model", "--base-url", server.url, *planted.flags(out)]
        assert cli("run", *flags)[0] == 0
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    printed = capsys.readouterr().out
    assert "population_f1" in printed
    assert "labeled" in printed
