"""Every reader on what real models sent, held against readings of the plainest kind."""

import contextlib
import json
import re
from collections import Counter

import numpy as np

from autointerp.llm.numbering import Miscounted
from autointerp.scoring.forms import FORMS
from autointerp.scoring.scorer import Judged
from autointerp.scoring.scorers.concept_texts import TASK as TEXTS
from tests.support.recordings import LABEL, job_of, prompt_of, reader_of, recordings, reply_of

ROWS = recordings()
LISTS = {
    "detection": {"match": 1, "no_match": 0},
    "fuzzing": {"right": 1, "wrong": 0},
    "fade": {"clear": 2, "partly": 1, "none": 0},
}


def of(*tasks):
    return [row for row in ROWS if row["task"] in tasks]


def name(row):
    return f"{row['model']} {row['task']} {' '.join(row['about'])[:60]} {row['reply'][:300]!r}"


def letters(text):
    """What is left of a text however it is quoted, escaped, marked and shortened."""
    return "".join(re.findall(r"[^\W_]+", text)).casefold()


def told(text):
    """The letters of a reply, its escapes resolved."""
    return letters(re.sub(r"\\u([0-9a-fA-F]{4})|\\.", _resolved, text))


def _resolved(escape):
    return (
        chr(int(escape[1], 16)) if escape[1] else escape[0][1] if escape[0][1] in "\"'\\/" else " "
    )


def integers(text):
    return {int(n) for n in re.findall(r"\d{1,9}", text)}


def plain(row):
    """The reply's object; None where it is not well-formed, or the template's example."""
    if letters(row["reply"]) in letters(prompt_of(row["task"]).source):
        return None
    try:
        value = json.loads(row["reply"])
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def answered(row):
    """Item → what was read of it, by the job whose request it was."""
    job = job_of(row)
    step = job.reduce(reply_of(row))
    (outcome,) = [*step.results, *step.follow_ups]
    if not isinstance(outcome, Judged):
        return dict(outcome.answers)
    judged = enumerate(outcome.judgments)
    return {i: j.prediction for i, j in judged if j.prediction is not None}


def test_there_are_enough_of_each_kind():
    models = Counter(row["model"] for row in ROWS)
    assert len(models) >= 2
    assert sum(models.values()) >= 200
    assert all(n >= 80 for n in models.values())
    tasks = (LABEL, *LISTS, "intruder", "discrimination", "simulation", TEXTS)
    for model in models:
        assert set(tasks) <= {row["task"] for row in ROWS if row["model"] == model}
    kinds = {(row["task"], row["schema"]) for row in ROWS}
    assert {(task, schema) for task in tasks for schema in (True, False)} <= kinds
    assert "simulation_top_logprobs" in {row["task"] for row in ROWS}
    asked_in = {(row["task"], row.get("form")) for row in ROWS}
    assert {(task, form) for task in ("detection", "fuzzing") for form in FORMS} <= asked_in
    assert {1, 4, 8} <= {len(row["asked"]) for row in of(LABEL)}


def test_every_feature_is_labeled_or_asked_again_or_failed():
    for row in of(LABEL):
        job = job_of(row)
        step = job.reduce(reply_of(row))
        drafted = [draft.feature for draft in step.results]
        again = [evidence.feature for job in step.follow_ups for evidence in job.group]
        assert sorted(drafted + again) == list(range(len(row["asked"]))), name(row)
        assert {draft.status for draft in step.results} <= {"labeled", "failed", "refused"}
        for draft in step.results:
            assert (draft.label is None) == (draft.error is not None), name(row)


def labeled(row):
    return {d.feature: d for d in job_of(row).reduce(reply_of(row)).results if d.label is not None}


def test_a_label_stands_in_the_reply():
    read = 0
    for row in of(LABEL):
        words = told(row["reply"])
        for draft in labeled(row).values():
            read += 1
            for text in draft.meanings or [draft.label]:
                assert letters(text.removesuffix("…")) in words, name(row)
            assert letters(draft.reason) in words, name(row)
            assert draft.confidence is None or 0 <= draft.confidence <= 1
    assert read


def test_no_label_of_a_plain_reply_is_lost():
    """Each is read, if only to find that it is not one."""
    checked = 0
    for row in of(LABEL):
        entries = (plain(row) or {}).get("labels")
        if not isinstance(entries, list) or [e.get("n") for e in entries] != row["asked"]:
            continue
        if all(isinstance(e.get("label"), str) and letters(e["label"]) for e in entries):
            checked += 1
            found, _ = job_of(row).read(row["reply"])
            assert set(found) == set(range(1, len(entries) + 1)), name(row)
    assert checked


def test_what_a_judge_says_of_each_number_is_what_is_read():
    checked = Counter()
    for row in of(*LISTS, "discrimination"):
        values = LISTS.get(row["task"]) or _worth(row)
        found = {i: float(value[0]) for i, value in answered(row).items()}
        assert set(found) <= set(range(len(row["asked"]))), name(row)
        assert set(found.values()) <= set(values.values()), name(row)
        near = {n + step for n in integers(row["reply"]) for step in (-1, 0, 1)}
        assert {row["asked"][i] for i in found} <= near, name(row)
        expected = _listed(row, values)
        # Of probabilities the likelier counts, which is mostly what was written.
        if expected is not None and row.get("form") != "probabilities":
            checked[row["task"], row.get("form")] += 1
            assert found == expected, name(row)
    assert checked


def _worth(row):
    """What choosing each letter is worth: labels that are the same share it."""
    labels = [label.casefold() for label in row["choices"]["labels"]]
    own = labels[row["choices"]["place"]]
    return {k: (t == own) / labels.count(own) for k, t in zip("ABCD", labels, strict=True)}


def _listed(row, values):
    """Item → value, of a plain reply that names each number that was asked for just once."""
    whole = plain(row) or {}
    if row.get("form", "lists") == "lists":
        given = [(n, values[key]) for key in values for n in (whole.get(key) or ())]
    else:
        given = [(int(n), _verdict(said)) for n, said in whole.items() if n.isdecimal()]
    numbers = [n for n, value in given if isinstance(n, int) and value is not None]
    if sorted(numbers) != sorted(row["asked"]) or len(given) != len(row["asked"]):
        return None
    return {row["asked"].index(n): value for n, value in given}


def _verdict(said):
    """What is said of one number: a boolean, or an object with a quote and one."""
    if isinstance(said, dict):
        (said,) = [value for value in said.values() if not isinstance(value, str)] or [None]
    return float(said) if isinstance(said, bool) else None


def test_an_intruder_is_one_of_five_that_the_reply_names():
    checked = 0
    for row in of("intruder"):
        found = {i: float(value[0]) for i, value in answered(row).items()}
        assert set(found.values()) <= {1, 2, 3, 4, 5} & integers(row["reply"]), name(row)
        entries = (plain(row) or {}).get("sets")
        if isinstance(entries, list) and [e.get("n") for e in entries] == row["asked"]:
            named = [e.get("intruder") for e in entries]
            if all(n in (1, 2, 3, 4, 5) for n in named):
                checked += 1
                assert found == dict(enumerate(named)), name(row)
    assert checked


def test_simulated_activations_are_the_replys_own():
    checked = 0
    for row in of("simulation"):
        found = answered(row)
        there = integers(row["reply"])
        for i, values in found.items():
            assert len(values) == row["lengths"][i], name(row)
            assert set(values.tolist()) <= there & set(range(11)), name(row)
        entries = (plain(row) or {}).get("windows")
        if isinstance(entries, list) and [e.get("w") for e in entries] == row["asked"]:
            for i, entry in enumerate(entries):
                fits = len(entry["activations"]) == row["lengths"][i]
                fits &= all(v in range(11) for v in entry["activations"])
                checked += fits
                assert (i in found) == fits, name(row)
                assert not fits or found[i].tolist() == entry["activations"], name(row)
    assert checked


def test_expected_activations_are_within_the_digits_that_were_likely():
    for row in of("simulation_top_logprobs", "simulation_prompt_logprobs"):
        digits = [
            int(text.strip())
            for _, others in row["positions"]
            for text, _ in others
            if re.fullmatch(r"\s*[0-9]\s*", text)
        ]
        found = answered(row)
        assert not found or digits, name(row)
        for i, values in found.items():
            assert len(values) == row["lengths"][i], name(row)
            known = values[~np.isnan(values)]
            assert (known >= min(digits) * 10 / 9 - 1e-4).all(), name(row)
            assert (known <= max(digits) * 10 / 9 + 1e-4).all(), name(row)


def test_texts_that_are_taken_stand_in_the_reply():
    for row in of(TEXTS):
        step = job_of(row).reduce(reply_of(row))
        (outcome,) = [*step.results, *step.follow_ups]
        assert len(set(outcome.texts)) == len(outcome.texts) <= len(row["asked"])
        for text in outcome.texts:
            assert text.strip(), name(row)
            assert told(text) in told(row["reply"]), name(row)


def test_any_reader_takes_any_reply():
    readers = list({(row["task"], row.get("form")): (row, reader_of(row)) for row in ROWS}.values())
    for row in ROWS:
        for asked, read in readers:
            with contextlib.suppress(Miscounted):
                found = read(row["reply"])
                assert len(found) <= len(asked["asked"]) or asked["task"] == TEXTS, name(row)


def test_of_a_reply_that_breaks_off_nothing_else_is_read():
    for row in ROWS:
        read, text = reader_of(row), row["reply"]
        for part in (text[: len(text) // 3], text[: -len(text) // 5]):
            with contextlib.suppress(Miscounted):
                there = told(part)
                for found in read(part).values():
                    if row["task"] == LABEL:
                        assert letters(found.label.removesuffix("…")) in there, name(row)
