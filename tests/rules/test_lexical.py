"""Planted features on made-up source code: the rule found must hold on windows never seen."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp.evidence.window import FeatureEvidence, Kind, Split, Window
from autointerp.rules.lexical import LexicalLabeler
from autointerp.rules.literals import Tables
from autointerp.rules.rules import PHRASE_LIMIT, Predicate, Rule, Term
from autointerp.vocabulary import Vocabulary

NAMES = ["value", "name", "path", "item", "Key", "data", "Count", "line", "size", "index"]
MODULES = ["os", "json", "socket", "time", "ssl", "re"]
PROSE = ["the", "error", "Error", "ERROR", "is", "raised", "when", "reading", "fails", "of", "a"]
LAYOUT = ["\n", "\n    ", "\n        ", "import", "from", "def", "return", "class", "if", "self"]
SIGNS = ["(", ")", ":", ",", ".", "=", "==", "+", "[", "]", "#", '"', "not"]
DIGITS = ["0", "1", "12", "200", "42"]
TOKENS = ["<|end|>", *LAYOUT, *SIGNS, *DIGITS, "é", ""]
TOKENS += [space + word for word in NAMES + MODULES + PROSE for space in ("", " ")]
TOKENS += [" import", " self", " as", "_", " isinstance", " len", " in"]
IDS = {text: number for number, text in enumerate(TOKENS)}
VOCABULARY = Vocabulary(tuple(t.encode() for t in TOKENS), frozenset({0}))
LABELER = LexicalLabeler(VOCABULARY)
LENGTH = 32

Truth = Callable[[list[str], int, int], bool]  # (tokens of a context, index, start of the window)


def _line(rng: np.random.Generator) -> list[str]:
    def word(words: Sequence[str]) -> str:
        return words[int(rng.integers(len(words)))]

    def name() -> str:
        return " " + word(NAMES)

    match rng.integers(8):
        case 0:
            return ["import", " " + word(MODULES), ",", " " + word(MODULES), "\n"]
        case 1:
            return ["from", name(), " import", name(), ",", name(), "\n"]
        case 2:
            return ["def", name(), "(", "self", ",", name(), ",", name(), ")", ":", "\n    "]
        case 3:
            return ["return", name(), "+", word(DIGITS), "\n", "\n"]
        case 4:
            return ["#", *(" " + word(PROSE) for _ in range(rng.integers(3, 8))), "\n    "]
        case 5:
            return [word(NAMES), "=", " len", "(", word(NAMES), ")", "\n        "]
        case 6:
            return ["if", " isinstance", "(", word(NAMES), ",", name(), ")", ":", "\n        "]
        case _:
            return ["self", ".", word(NAMES), "==", " self", "[", word(DIGITS), "]", "\n    "]


def _context(rng: np.random.Generator) -> list[str]:
    tokens: list[str] = ["<|end|>"]
    while len(tokens) < 64:
        tokens += _line(rng)
    return tokens


def _windows(truth: Truth, seed: int, split: Split, per_kind: int, wanted: str) -> list[Window]:
    """`per_kind` windows for each of top, sample and negative; negatives have the hard cases."""
    rng = np.random.default_rng(seed)
    found: dict[Kind, list[Window]] = {"top": [], "sample": [], "negative": []}
    for number in range(4000):
        tokens = _context(rng)
        start = 0 if number % 4 == 0 else int(rng.integers(0, len(tokens) - LENGTH))
        active = [truth(tokens, i, start) for i in range(start, start + LENGTH)]
        activations = np.array(active) * rng.uniform(1, 4, LENGTH)
        kind: Kind = "negative"
        if any(active):
            kind = "top" if len(found["top"]) < per_kind else "sample"
        shown = tokens[start : start + LENGTH]
        hard = kind != "negative" or wanted in shown or len(found[kind]) >= per_kind // 2
        if len(found[kind]) < per_kind and hard:
            found[kind].append(_window(shown, activations, kind, split, number, start))
    return [window for windows in found.values() for window in windows]


def _window(
    tokens: Sequence[str],
    activations: np.ndarray,
    kind: Kind = "top",
    split: Split = "label",
    context: int = 0,
    start: int = 0,
) -> Window:
    values = np.asarray(activations, dtype=np.float32)
    return Window(
        kind=kind,
        split=split,
        rank=0,
        context=context,
        start=start,
        peak=int(values.argmax()) if len(values) else 0,
        token_ids=np.array([IDS[t] for t in tokens], dtype=np.int32),
        activations=values,
        text="".join(tokens),
    )


def _evidence(windows: list[Window]) -> FeatureEvidence:
    return FeatureEvidence(
        feature=0,
        n_active=1000,
        density=0.01,
        mean_activation=2.0,
        max_activation=4.0,
        window_density=0.2,
        windows=windows,
    )


def _balanced_accuracy(rule: Rule, windows: list[Window]) -> float:
    fired = np.array(LABELER.fires(rule, windows))
    truth = np.array([w.fires for w in windows])
    return float((fired[truth].mean() + (~fired[~truth]).mean()) / 2)


def _line_before(tokens: list[str], index: int) -> list[str]:
    begin = index
    while begin > 0 and "\n" not in tokens[begin - 1]:
        begin -= 1
    return tokens[begin:index]


PLANTED: dict[str, tuple[Truth, str, list[str]]] = {
    "token": (lambda t, i, _: t[i] == " isinstance", " len", ["' isinstance'"]),
    "two tokens": (lambda t, i, _: t[i] in ("def", "return"), "if", ["'def'", "'return'", "or"]),
    "any case": (lambda t, i, _: t[i].strip().lower() == "error", " is", ["error"]),
    "digits": (lambda t, i, _: t[i].isdigit(), "+", ["digits"]),
    "indentation": (
        lambda t, i, _: t[i].startswith("\n "),
        "\n",
        ["newline", "space", "indentation"],
    ),
    "bigram": (
        lambda t, i, _: t[i] == "(" and t[i - 1] == " isinstance",
        "(",
        ["'('", "right after ' isinstance'"],
    ),
    "on the line": (
        lambda t, i, _: t[i] == "," and any("import" in x for x in _line_before(t, i)),
        ",",
        ["','", "on a line after", "'import'"],
    ),
    "topic": (
        lambda t, i, start: t[i] == "self" and " socket" in t[start:i],
        "self",
        ["'self'", "in text about 'socket'"],
    ),
    "start": (lambda _, i, __: i < 4, "\n", ["first 4 tokens of a context"]),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_feature_is_found_and_named(name: str) -> None:
    truth, hard, words = PLANTED[name]
    rule = LABELER.learn(_evidence(_windows(truth, 1, "label", 20, hard)))
    assert rule is not None
    unseen = _windows(truth, 2, "score", 40, hard)
    silent = [w for w in unseen if not w.fires]
    assert len(silent) > 10
    assert sum(IDS[hard] in w.token_ids for w in silent) >= 5
    assert _balanced_accuracy(rule, unseen) >= 0.95, rule.phrase()
    phrase = rule.phrase()
    found = [word for word in words if word in phrase]
    assert found == words or (name == "indentation" and found), phrase
    assert rule.confidence > 0.8
    assert len(rule.terms) <= 2


def test_a_random_feature_gets_little_confidence_and_predicts_little() -> None:
    rng = np.random.default_rng(5)
    windows = []
    for number in range(100):
        tokens = _context(rng)[:LENGTH]
        fires = np.zeros(LENGTH)
        if number % 5 < 3:
            fires[rng.integers(1, LENGTH, 2)] = rng.uniform(1, 4, 2)
        split: Split = "label" if number < 50 else "score"
        windows.append(_window(tokens, fires, "top" if fires.any() else "negative", split, number))
    rule = LABELER.learn(_evidence(windows))
    assert rule is not None
    assert rule.confidence < 0.4
    unseen = [w for w in windows if w.split == "score"]
    assert _balanced_accuracy(rule, unseen) < 0.7
    assert np.concatenate(LABELER.predict(rule, unseen)).max() < 5


def test_levels_differ_where_tokens_fire_differently() -> None:
    rng = np.random.default_rng(3)
    windows = []
    for _ in range(40):
        tokens = _context(rng)[:LENGTH]
        levels = {"def": 4.0, "return": 1.0}
        values = np.array([levels.get(t, 0.0) for t in tokens])
        windows.append(_window(tokens, values, "top" if values.any() else "negative"))
    rule = LABELER.learn(_evidence(windows))
    assert rule is not None
    strong, weak, silent = LABELER.predict(rule, [_window(["def", "return", "#"], np.zeros(3))])[0]
    assert strong == pytest.approx(10, abs=1.5)
    assert weak == pytest.approx(2.5, abs=0.8)
    assert silent == 0


def _learned() -> Rule:
    rule = LABELER.learn(_evidence(_windows(PLANTED["bigram"][0], 1, "label", 20, "(")))
    assert rule is not None
    return rule


def test_the_same_windows_give_the_same_rule() -> None:
    assert _learned() == _learned()


def test_only_labeling_windows_teach() -> None:
    label = _windows(PLANTED["bigram"][0], 1, "label", 20, "(")
    others = _windows(PLANTED["digits"][0], 3, "score", 20, "+")
    others += _windows(PLANTED["digits"][0], 4, "validate", 20, "+")
    assert LABELER.learn(_evidence(label + others)) == LABELER.learn(_evidence(label))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(TOKENS), min_size=1, max_size=40), st.integers(0, 99))
def test_predictions_do_not_look_at_activations(tokens: list[str], seed: int) -> None:
    values = np.random.default_rng(seed).uniform(0, 5, len(tokens))
    rule = _LEARNED
    shown = [_window(tokens, values), _window(tokens, values[::-1], "sample", "score")]
    blank = [_window(tokens, 0 * values, "negative"), _window(tokens, 0 * values, "near_miss")]
    for one, other in zip(LABELER.predict(rule, shown), LABELER.predict(rule, blank), strict=True):
        assert one.dtype == np.float32
        assert one.shape == (len(tokens),)
        assert ((one >= 0) & (one <= 10)).all()
        np.testing.assert_array_equal(one, other)
    assert LABELER.matches(rule, shown) == LABELER.matches(rule, blank)
    assert all(0 <= score <= 1 for score in LABELER.matches(rule, shown))


_LEARNED = _learned()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(-3, len(TOKENS) + 5), max_size=12),
            st.sampled_from(["top", "sample", "negative"]),
            st.sampled_from(["zero", "all", "last", "nan"]),
        ),
        max_size=6,
    ),
    st.sampled_from([0.0, 0.01, 1.0, float("nan")]),
)
def test_any_evidence_is_survived(drawn: list[tuple[list[int], Kind, str]], share: float) -> None:
    windows = []
    for number, (ids, kind, pattern) in enumerate(drawn):
        values = np.full(len(ids), {"all": 2.0, "nan": np.nan}.get(pattern, 0.0), np.float32)
        if pattern == "last" and ids:
            values[-1] = 3.0
        tokens = np.array(ids, dtype=np.int32)
        windows.append(Window(kind, "label", 0, number, 0, 0, tokens, values, ""))
    evidence = FeatureEvidence(0, 10, share, 1.0, 3.0, share, windows=windows)
    rule = LABELER.learn(evidence)
    assert (rule is not None) == any((w.activations > 0).any() for w in windows)
    if rule is not None:
        assert len(LABELER.predict(rule, windows)) == len(LABELER.fires(rule, windows))
        assert 0 < len(rule.phrase()) <= PHRASE_LIMIT
        assert "\n" not in rule.phrase() + rule.reason()
        assert 0 <= rule.confidence <= 1
        assert Rule.from_json(rule.to_json()) == rule


def test_no_windows() -> None:
    assert LABELER.learn(_evidence([])) is None
    assert LABELER.predict(_LEARNED, []) == []
    assert LABELER.fires(_LEARNED, []) == []


def _predicates(kinds: list[str]) -> st.SearchStrategy[Predicate]:
    return st.builds(
        Predicate,
        st.sampled_from(kinds),
        st.lists(st.integers(0, 2**40), min_size=1, max_size=9).map(tuple),
        st.lists(st.text(max_size=60), min_size=1, max_size=9).map(tuple),
    )


currents = _predicates(["token", "word", "any"])
contexts = _predicates(["always", "previous", "previous_word", "pair", "line", "topic", "start"])
shares = st.lists(st.floats(0, 10), max_size=4).map(tuple)
terms = st.builds(Term, currents, contexts, shares, shares)
fractions = st.floats(0, 1)
counts = st.integers(0, 99)
rules = st.builds(
    Rule,
    st.lists(terms, max_size=4).map(tuple),
    fractions,
    fractions,
    fractions,
    counts,
    counts,
    counts,
)


@settings(max_examples=30, deadline=None)
@given(rules)
def test_rules_round_trip_and_fit_on_a_line(rule: Rule) -> None:
    assert Rule.from_json(rule.to_json()) == rule
    assert 0 < len(rule.phrase()) <= PHRASE_LIMIT
    assert len(rule.phrase().splitlines()) == 1


def _phrase(current: Predicate, context: Predicate) -> str:
    return Rule((Term(current, context, (), ()),), 1, 1, 0.5, 1, 1, 0).phrase()


def test_phrases() -> None:
    always = Predicate("always", (0,), ("0",))
    anything = Predicate("any", (0,), ("0",))
    token = Predicate("token", (1, 2), ("self", "\n    "))
    assert _phrase(token, always) == "'self' or newline + 4 spaces"
    assert _phrase(Predicate("word", (1,), ("it's",)), always) == '"it\'s" in any case'
    assert _phrase(Predicate("word", (1, 2), ("-", r"\x82")), always) == r"'-' or '\x82'"
    assert _phrase(Predicate("token", (1,), ("\xa0",)), always) == "no-break space"
    assert _phrase(token, Predicate("line", (1,), ("def",))).endswith("on a line after 'def'")
    assert _phrase(anything, Predicate("topic", (1, 2), ("ssl", "tls"))) == (
        "text about 'ssl' or 'tls'"
    )
    assert _phrase(anything, Predicate("start", (1,), ("1",))) == "the first token of a context"
    assert _phrase(anything, Predicate("pair", (1,), ("self.",))) == (
        "the token right after 'self.'"
    )


def test_the_first_tokens_are_said_once() -> None:
    anything = Predicate("any", (0,), ("0",))
    first = [Term(anything, Predicate("start", (n,), (str(n),)), (), ()) for n in (2, 8)]
    comma = Term(Predicate("token", (1,), (",",)), Predicate("always", (0,), ("0",)), (), ())
    rule = Rule((first[0], comma, first[1]), 1, 1, 0.5, 1, 1, 0)
    assert rule.phrase() == "','; the first 8 tokens of a context"


def test_words_are_known_by_the_codes_that_saved_rules_hold() -> None:
    tables = Tables(Vocabulary((b" \xe2\x94", b"\xe2\x94", b" The", b"the"), frozenset()))
    assert tables.word.tolist() == [0, 1, 2, 2, 3, -1]
    assert tables.word_names == [r"\xe2\x94", r"\xe2\x94", "the", "⟨unknown⟩"]
    assert tables.text("token", 0) == r" \xe2\x94"
