"""POST: a person's corrections, and new labels from the labeling model."""

import threading
from datetime import UTC, datetime

from fastapi import APIRouter, HTTPException, Response

from autointerp.errors import AutointerpError, InputError
from autointerp.plain_text import line_for_person
from autointerp.resources.model_facts import is_priced
from autointerp.serve.reading import Number
from autointerp.serve.served import Served
from autointerp.serve.shapes import NewEdit, Nothing, Problem, answer
from autointerp.stages.label.relabel import relabel
from autointerp.tables.edits import Edit, add_edit

NO_MODEL = (
    "no model is set: start the server with `autointerp serve --model NAME "
    "--base-url URL` (the model in the run's record is not trusted)"
)


def writing(served: Served) -> APIRouter:
    routes = APIRouter(responses={status: {"model": Problem} for status in (400, 409)})
    asking = threading.Lock()

    @routes.post("/features/{feature}/edits", response_model=Edit, status_code=201)
    def edit(feature: Number, given: NewEdit) -> Response:
        """Keep a person's label, vote or note beside the run; nothing is overwritten."""
        _check(served, feature)
        return _added(served, Edit(feature=feature, time=_now(), **given.model_dump()))

    @routes.post("/features/{feature}/label", response_model=Edit, status_code=201)
    def label(feature: Number, _nothing: Nothing) -> Response:
        """Ask the model that was named to `autointerp serve` for a new label.

        It costs money, and is done one at a time.
        """
        _check(served, feature)
        if not asking.acquire(blocking=False):
            raise HTTPException(409, "another label is being requested: wait for it")
        try:
            return _added(served, _asked(served, feature))
        finally:
            asking.release()

    return routes


def _asked(served: Served, feature: int) -> Edit:
    """A new label from a model. Raises HTTPException where there is none to be had."""
    if not served.own.uses_model():
        raise HTTPException(409, NO_MODEL)
    try:
        draft = relabel(served.run, feature, served.own)
    except AutointerpError as error:
        raise HTTPException(409, line_for_person(error)) from None
    if draft.label is None:
        raise HTTPException(409, line_for_person(f"no label ({draft.status}): {draft.error}"))
    return Edit(
        feature=feature,
        kind="model_label",
        author=draft.labeler,
        time=_now(),
        label=draft.label,
        reason=draft.reason,
        confidence=draft.confidence,
        prompt_tokens=draft.prompt_tokens,
        completion_tokens=draft.completion_tokens,
        cost_usd=draft.cost_usd if is_priced(served.own) else None,
    )


def _added(served: Served, edit: Edit) -> Response:
    try:
        add_edit(served.run, edit)
    except AutointerpError as error:
        raise HTTPException(409, line_for_person(error)) from None
    return answer(edit, 201)


def _check(served: Served, feature: int) -> None:
    if feature not in served.labels.now():
        raise InputError(f"the label table has no feature {feature}")


def _now() -> datetime:
    return datetime.now(UTC)
