"""Words: American spelling, "is not a" rather than "is no", and one meaning for each word.

What is sent to models, and what finished runs hold, keeps the words it had: hashes and tables
would differ.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "autointerp"
TEXT = (".py", ".md", ".toml", ".html", ".js", ".css", ".sh")
ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
BRITISH = re.compile(
    r"""(?ix) \b(?:
        \w*colou?r(?<=colour)\w* | cent(?:re[ds]?|ring) | \w*neighbour\w* | \w*behaviour\w*
        | favour\w* | honour\w* | labell(?:ed|ing) | modell(?:ed|ing) | cancell(?:ing)
        | learnt | spelt | spoilt | burnt | whilst | amongst | grey | catalogue | licence
        | defence | judgement | artefact\w* | fulfil | analys(?:e[ds]?|ing)
        | (?:\w*(?:random|normal|initial|token|serial|organ|optim|minim|maxim|summar|recogn
            |capital|general|special|standard|categor|emphas|quant|real|util|visual|synchron)
            is(?:e[ds]?|ing|ation|ations))
    )\b"""
)
KEPT = {
    "autointerp/llm/probe.py": "colours: sent to models",
    "autointerp/rules/literals.py": "capitalised: in the labels of finished runs",
    "autointerp/activations/text_files.py": "licence: a file's name",
    "autointerp/coders/coder_files.py": "centred: in the identities of SAEs",
    "tests/support/models.py": "colours: what the probe asks",
    "tests/llm/test_probe.py": "colours: what the probe asks",
    "tests/stages/score/test_simulation_modes.py": "colours: what the probe asks",
    "tests/test_words.py": "the words themselves",
}
SAYS = re.compile(r"\w*Error|say|_?on_event|Unbounded|BadQuery|Problem|HTTPException|Redirected")
REFUSE = re.compile(r"refus", re.IGNORECASE)


def files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in TEXT and "data" not in path.relative_to(ROOT).parts:
                yield path


def text_of(node: ast.AST) -> str:
    """What a string says, an f-string with … for what is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(value) for value in node.values)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return "…" if isinstance(node, ast.FormattedValue) else ""


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """The strings that errors and the user are given, with their lines."""
    for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(call, ast.Call):
            continue
        name = getattr(call.func, "id", getattr(call.func, "attr", ""))
        if SAYS.fullmatch(name):
            for argument in call.args:
                for node in ast.walk(argument):
                    if isinstance(node, ast.JoinedStr | ast.Constant):
                        yield call.lineno, text_of(node)


def test_spelling_is_american():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {word[0]}"
        for path in files("autointerp", "scripts", "docs", "tests")
        if str(path.relative_to(ROOT)) not in KEPT
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for word in BRITISH.finditer(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("room", ROOMS)
def test_a_message_says_what_something_is_not(room):
    found = [
        f"{path.relative_to(ROOT)}:{line}: {said}"
        for path in files(f"autointerp/{room}")
        if path.suffix == ".py"
        for line, said in messages(path)
        if re.search(r"(?<!there )\b(?:is|are|was|were) no\b(?! (?:longer|more|better))", said)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("room", ROOMS)
def test_refuse_is_said_of_nothing(room):
    """429 is throttled, a parameter is rejected, the model declines, our own check fails."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files(f"autointerp/{room}")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        # The status of a label that the model declined, and what APIs call it, stay in files.
        if REFUSE.search(
            re.sub(r"""(['"])refus(?:ed|al)\1|refused, failed|refuses to eat""", "", line)
        )
    ]
    assert not found, "\n".join(found)
