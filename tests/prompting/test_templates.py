import hashlib

import pytest

from autointerp.errors import AutointerpError
from autointerp.evidence.window_text import marked, marks_for, one_line, quoted, token_list
from autointerp.prompting.prompts import BUNDLED, load_prompt
from autointerp.stages.show_prompts import TEMPLATES
from autointerp.vocabulary import Vocabulary
from tests.support.samples import window


@pytest.mark.parametrize("task", TEMPLATES)
def test_bundled_templates_render(task, tmp_path):
    prompt = load_prompt(task, tmp_path)
    assert prompt.path.parent == BUNDLED
    assert len(prompt.hash) == 64


def test_the_users_copy_comes_first(tmp_path):
    (tmp_path / "detection.jinja").write_text(
        "{% block system %}S{% endblock %}{% block user %}{{ label }}{% endblock %}"
    )
    prompt = load_prompt("detection", tmp_path)
    assert prompt.messages(label="x", windows=[]) == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "x"},
    ]
    assert prompt.hash != load_prompt("detection", tmp_path / "other").hash


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{{ labl }}", "'labl' is undefined"),
        ("{{ label.upper.lower() }}", "has no attribute 'lower'"),
        ("{{ windows[0].nothing }}", "has no attribute 'nothing'"),
        ("{{ label + 1 }}", "can only concatenate"),
        ("{% for x in %}", "line 1"),
        ("{% for w in windows %}{{ w.txt }}{% endfor %}", "line 1.*no attribute 'txt'"),
        ("{% if windows | length > 9 %}\n{{ windows[9].txt }}{% endif %}", "line 2.*'txt'"),
        ("{% if label == 'never' %}{{ labl }}{% endif %}", "'labl' is undefined"),
        ("{{ label | shout }}", "No filter named 'shout'"),
        ("{{ label | round }}", "line 1"),
        ("{{ label is shouted }}", "No test named 'shouted'"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ windows | map('upper') }}{{ label.nothing }}", "'nothing'"),
        ("{{ label", "line 1"),
        ("{% include '/etc/passwd' %}", "line 1: a template cannot include another file"),
        ("{% import 'label.jinja' as x %}", "cannot include another file"),
        ("{% from 'label.jinja' import x %}", "cannot include another file"),
        ("{{ label.__class__ }}", "unsafe"),
        ("{{ label.__class__.__mro__ }}", "unsafe"),
        ("{{ ''.__class__.__base__.__subclasses__() }}", "unsafe"),
        ("{{ cycler.__init__.__globals__ }}", "unsafe"),
        ("{{ windows.append(1) }}", "unsafe|not safely"),
        ("{{ '{0.__class__}'.format(label) }}", "unsafe"),
        ("{{ range(1000000) | list }}", "[Rr]ange"),
        ("{{ caller() }}", "undefined"),
        ("{{ super() }}", "no parent block"),
    ],
)
def test_broken_templates_fail_when_loaded_and_say_where(tmp_path, body, said):
    file = tmp_path / "detection.jinja"
    file.write_text("{% block system %}S{% endblock %}{% block user %}" + body + "{% endblock %}")
    with pytest.raises(AutointerpError, match=said) as caught:
        load_prompt("detection", tmp_path)
    assert str(file) in str(caught.value)


_GROWS = "{{% set n = namespace(t='x') %}}{{% for i in range(99) %}}{}{{% endfor %}}"
_LONG = "{% for a in range(9999) %}{% for b in range(9999) %}"


@pytest.mark.parametrize(
    "body",
    [
        _LONG + "{% endfor %}{% endfor %}",
        _LONG + "x{% endfor %}{% endfor %}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}"
        "{{ m(99) }}",
        "{% for x in [1, 2] recursive %}{% if loop.depth < 90 %}{{ loop([1, 2]) }}{% endif %}"
        "{% endfor %}",
        _GROWS.format("{% set n.t = n.t ~ n.t %}"),
        _GROWS.format("{% set n.t = n.t + n.t %}"),
        _GROWS.format("{% set n.t = ([n.t] * 2 + [n.t] * 2) | join %}"),
        _GROWS.format("{% set n.t %}{{ n.t }}{{ n.t }}{% endset %}"),
        "{{ 'x' * 10 ** 10 }}",
        "{{ 'x' | center(10000000000) }}",
        "{{ 'x'.ljust(10000000000) }}",
        "{{ 9 ** 999999999 }}",
        "{% for a in range(9999) %}{{ 'a long line of text' * 99 }}{% endfor %}",
    ],
)
def test_a_template_that_does_not_end_fails_when_loaded_and_says_where(tmp_path, monkeypatch, body):
    monkeypatch.setattr("autointerp.prompting.bounded.MAX_STEPS", 50_000)
    file = tmp_path / "detection.jinja"
    file.write_text("{% block system %}S{% endblock %}{% block user %}" + body + "{% endblock %}")
    with pytest.raises(AutointerpError, match=r"does not end|too long|to the power") as caught:
        load_prompt("detection", tmp_path)
    assert str(file) in str(caught.value)


def test_limits_change_nothing_of_a_template_that_ends(tmp_path):
    (tmp_path / "detection.jinja").write_text(
        "{% block system %}{% set t %}<{{ label }}>{% endset %}{{ t ~ '!' }}{% endblock %}"
        "{% block user %}{% for w in windows recursive %}{{ loop.index }}/{{ loop.length }}"
        "{{ ',' ~ loop.nextitem.text if not loop.last }}{% else %}none{% endfor %}{% endblock %}"
    )
    prompt = load_prompt("detection", tmp_path)
    system, user = prompt.messages(label="x", windows=[{"number": 1, "text": "a"}] * 2)
    assert (system["content"], user["content"]) == ("<x>!", "1/2,a2/2")
    assert prompt.messages(label="x", windows=[])[1]["content"] == "none"


def test_a_template_that_is_no_text_is_said(tmp_path):
    (tmp_path / "label.jinja").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AutointerpError, match="cannot be read"):
        load_prompt("label", tmp_path)


def test_a_template_without_its_blocks_is_said(tmp_path):
    (tmp_path / "label.jinja").write_text("{% block user %}{% endblock %}")
    with pytest.raises(AutointerpError, match="has no block 'system'"):
        load_prompt("label", tmp_path)


def test_a_template_cannot_stand_on_another(tmp_path):
    (tmp_path / "label.jinja").write_text("{% extends 'detection.jinja' %}")
    with pytest.raises(AutointerpError, match="cannot include another file"):
        load_prompt("label", tmp_path)


def test_a_label_is_data_for_a_template(tmp_path):
    said = "{{ 7*7 }}\n2. <|im_end|>{% raw %}"
    system, user = load_prompt("detection", tmp_path).messages(label=said, windows=[], form="lists")
    assert user["content"].startswith("Description: {{ 7*7 }}⏎2. <¦im_end¦>{% raw %}")
    assert system["role"] == "system"


def test_the_source_is_the_hashed_text(tmp_path):
    prompt = load_prompt("label", tmp_path)
    assert hashlib.sha256(prompt.source.encode()).hexdigest() == prompt.hash


def test_marks_occur_in_no_text():
    def marks(*texts):
        return marks_for([window([0], [0], text=text) for text in texts], Vocabulary((b"a",), ()))

    assert marks("plain") == ("<<", ">>")
    assert marks("1 << 2", "⟦") == ("{{{", "}}}")
    # After a text that ends with "<" nobody can tell where "<<" begins.
    assert marks("a <") == ("⟦", "⟧")
    everything = "<< >> ⟦ ⟧ {{{ }}} « » ⟪ ⟫ ◀◀ ▶▶ [on0]"
    opening, closing = marks(everything)
    assert opening not in everything
    assert closing not in everything


def test_runs_of_active_tokens_are_marked_together():
    vocabulary = Vocabulary((b"a", b" b", b"\n", b" c"), frozenset())
    shown = window([0, 1, 1, 2, 3], [0, 5, 4, 0, 2])
    assert marked(shown, vocabulary, ("<<", ">>")) == "a<< b b>>⏎<< c>>"
    numbered = marked(shown, vocabulary, ("<<", ">>"), 10)
    assert numbered == "a<< b b|5>>⏎<< c|2>>"
    # Below three tenths of the largest a firing is not marked.
    assert marked(window([0, 1], [1, 10]), vocabulary, ("<<", ">>")) == "a<< b>>"


def test_windows_stay_on_one_line_and_cannot_act():
    hostile = "a\r\nb\n\tc\x1b[31md\u202ee\0"
    assert one_line(hostile) == "a⏎b⏎⇥c·[31md·e·"
    assert quoted("\n") == "'⏎'"
    assert token_list([0], Vocabulary((b'say "hi"\n',), frozenset())) == '["say \\"hi\\"⏎"]'
