"""The forms of yes-or-no questions to a judge: lists, booleans, quotes, probabilities.

Which one a model can answer is a property of the model. Lists of numbers are the shortest reply,
but weak models count 1, 2, 3 … to the end. An object with a boolean for each number leaves nothing
to count; with a quote before each boolean the evidence comes before the answer; and where the
endpoint gives log probabilities, those of true and false rank the excerpts even where a timid judge
says the same of all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import numpy as np

from autointerp.config.scoring_settings import JudgeForm
from autointerp.errors import ConfigurationError
from autointerp.llm import verdicts
from autointerp.llm.numbering import numbers
from autointerp.llm.wire.logprobs import TOP_LOGPROBS
from autointerp.llm.wire.request import ReplySchema, by_number, fields, number_lists
from autointerp.llm.wire.structured import sides
from autointerp.prompting.prompts import Prompt
from autointerp.scoring.scorer import Item, Scorer, Task, answer
from autointerp.vocabulary import Vocabulary

FORMS: tuple[str, ...] = get_args(JudgeForm)
LISTS, BOOLEANS, QUOTES, PROBABILITIES = FORMS
# Where the endpoint does not allow a form, the next one.
_FALLBACK = {PROBABILITIES: BOOLEANS}
_MAX_QUOTE = 80  # characters
# Of a reply, for an item: models that are constrained still put each entry on lines of its own.
_TOKENS = {LISTS: 4, BOOLEANS: 12, QUOTES: 70, PROBABILITIES: 12}


def yes_or_no(
    names: tuple[str, str],
    render: Callable[..., dict[str, Any]],
    variables: Callable[[Sequence[Item], Vocabulary], dict[str, Any]] = lambda *_: {},
) -> dict[str, Task]:
    """Form → how to ask in it; `names` are the two lists', and the first one the boolean's."""

    def schema_in(form: str) -> Callable[[Sequence[Item], bool], ReplySchema]:
        def schema(items: Sequence[Item], scattered: bool) -> ReplySchema:
            asked = numbers(len(items), scattered)
            return number_lists(names, asked) if form == LISTS else by_number(entries[form], asked)

        return schema

    def read_lists(text: str, items: Sequence[Item], scattered: bool) -> dict[int, np.ndarray]:
        return _by_index(sides(text, *names, len(items), scattered))

    def read(text: str, items: Sequence[Item], scattered: bool) -> dict[int, np.ndarray]:
        return _by_index(verdicts.read(text, names, len(items), scattered))

    def said_in_lists(text: str) -> list[tuple[int | None, bool]]:
        return verdicts.said_in_lists(text, names)

    def said(text: str) -> list[tuple[int | None, bool]]:
        return verdicts.said(text, names)

    boolean = {"type": "boolean"}
    quote = {"type": "string", "maxLength": _MAX_QUOTE}
    entries = dict.fromkeys((BOOLEANS, PROBABILITIES), boolean)
    entries[QUOTES] = fields({"quote": quote, names[0]: boolean})
    return {
        form: Task(
            schema=schema_in(form),
            render=render,
            read=read_lists if form == LISTS else read,
            reply_tokens=lambda _, tokens=_TOKENS[form]: tokens,  # type: ignore[misc]
            variables=variables,
            # Scores in lists stand without a mode, as they did before there were others.
            mode=None if form == LISTS else form,
            form=form,
            said=said_in_lists if form == LISTS else said,
            logprobs=TOP_LOGPROBS if form == PROBABILITIES else None,
            chances=verdicts.chances if form == PROBABILITIES else None,
        )
        for form in FORMS
    }


def samples_of_forms(variables: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Samples of a template that asks in each of the forms: these variables, and a label."""
    return [{"label": "a label", "form": form, **variables} for form in FORMS]


def _by_index(places: Mapping[int, bool]) -> dict[int, np.ndarray]:
    return {place - 1: answer(yes) for place, yes in places.items()}


def ways(scorer: Scorer, form: str, prompt: Prompt) -> list[tuple[Task, Prompt]]:
    """How a judge is asked in this form: the preferred task first, then its fallbacks.

    As `JudgeJob` takes them: `chosen_task, prompt` and `fallbacks`. Raises AutointerpError where
    the template cannot ask in this form.
    """
    check(prompt, form)
    found = [scorer.forms[form]]
    while form in _FALLBACK:
        form = _FALLBACK[form]
        found.append(scorer.forms[form])
    return [(task, prompt) for task in found]


def check(prompt: Prompt, form: str) -> None:
    """Raises AutointerpError where the template cannot ask in this form."""
    if form != LISTS and "form" not in prompt.variables:
        raise ConfigurationError(
            f"template {prompt.path} only supports lists, since it does not use the "
            f"variable `form`: copy that part from the package's {prompt.path.name}, "
            f"or remove --judge-form {form}"
        )
