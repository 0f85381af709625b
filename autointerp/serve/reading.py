"""GET: the run, its features, and everything about each of them."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response

from autointerp.config.settings import RunConfig
from autointerp.errors import AutointerpError
from autointerp.llm.journal.journal_file import JournaledExchange
from autointerp.report.exchanges import feature_exchanges
from autointerp.report.overview import Overview
from autointerp.report.page_model import FeaturePage, ShownWindow
from autointerp.runs.record import RecordedSettings
from autointerp.serve.meaning import is_installed
from autointerp.serve.served import Served
from autointerp.serve.shapes import (
    ContextText,
    FeatureList,
    FoundFeatures,
    Preparing,
    Problem,
    RunInfo,
    answer,
)

MAX_NUMBER = 2**31 - 1  # of the numbers of features and contexts, and of offsets
_MAX_SEARCH = 1000  # characters of a search

Number = Annotated[int, Path(ge=0, le=MAX_NUMBER)]
_Text = Annotated[str, Query(max_length=_MAX_SEARCH)]
_Limit = Annotated[int, Query(ge=0, le=1000)]
_RETRY_AFTER = {"description": "Seconds to wait before retrying", "schema": {"type": "integer"}}
_MEANING: dict[int | str, dict[str, Any]] = {
    202: {
        "model": Preparing,
        "description": "Search by meaning is being prepared: retry later",
        "headers": {"Retry-After": _RETRY_AFTER},
    },
    501: {"model": Problem, "description": "Search by meaning is not installed"},
    503: {"model": Problem, "description": "The server is stopping"},
}


def reading(served: Served) -> APIRouter:
    routes = APIRouter()
    run = served.run

    @routes.get("/run", response_model=RunInfo)
    def run_info() -> Response:
        """What is served: the run, the columns of its label table, and what can be asked."""
        return answer(_info(served))

    @routes.get("/overview", response_model=Overview)
    def run_overview() -> Response:
        """Counts, distributions of scores beside their null, cost and time."""
        return answer(served.overview.now())

    @routes.get("/features", response_model=FeatureList, responses=_MEANING)
    def features(
        search: _Text = "",
        meaning: _Text = "",
        filters: Annotated[list[str] | None, Query(alias="filter", max_length=50)] = None,
        sort: str = "",
        descending: bool = False,
        offset: Annotated[int, Query(ge=0, le=MAX_NUMBER)] = 0,
        limit: _Limit = 100,
        columns: str = "",
    ) -> Response:
        """Rows of the label table, edits applied.

        search: every word is in the label, or begins the feature's number. meaning: what labels
        should be about; the nearest are first, and `similarity` is a column; the answer is 202
        until the labels are embedded. filter: COLUMN:OP:VALUE, repeated; OP is eq, ne, lt, le, gt,
        ge, contains, null or notnull; a missing value matches none but null. sort: a column; rows
        without a value are last. columns: names with commas.
        """
        labels = served.labels.now()
        near = served.meanings.similarity(labels, meaning) if meaning.strip() else None
        found = labels.select(
            search=search,
            similarity=near,
            filters=filters or (),
            sort=sort or None,
            descending=descending,
            offset=offset,
            limit=limit,
            columns=[name for name in columns.split(",") if name],
        )
        return answer(found)

    @routes.get("/search", response_model=list[FoundFeatures], responses=_MEANING)
    def search(q: _Text, by: Literal["words", "meaning"] = "words", limit: _Limit = 20) -> Response:
        """Labels that have every word, the shortest first; or the nearest by meaning,
        with 202 until the labels are embedded."""
        labels = served.labels.now()
        if by == "words":
            return answer(labels.with_words(q, limit))
        return answer(labels.nearest(served.meanings.similarity(labels, q), limit))

    @routes.get("/features/{feature}", response_model=FeaturePage)
    def one_feature(feature: Number) -> Response:
        """Everything there is to see of a feature."""
        return answer(served.pages.now().page(feature))

    @routes.get("/features/{feature}/windows", response_model=list[ShownWindow])
    def windows(feature: Number, kind: str | None = None, split: str | None = None) -> Response:
        """The feature's windows, of one kind (top, sample, …) or split where these are given."""
        return answer(served.pages.now().windows(feature, kind, split))

    @routes.get("/features/{feature}/exchanges", response_model=list[JournaledExchange])
    def asked(feature: Number) -> Response:
        """What a model was asked about the feature, and its raw replies: labeling, then judging,
        the newest of each first."""
        return answer(feature_exchanges(run, feature))

    @routes.get("/contexts/{context}", response_model=ContextText)
    def whole_context(context: Number) -> Response:
        """All tokens of a context, where the run's activations were kept."""
        return answer(served.contexts.text(context))

    return routes


def _asks(own: RunConfig) -> str | None:
    if own.is_local():
        return f"{own.local_model_name()} on this machine"
    return f"{own.model} at {', '.join(own.base_urls())}" if own.uses_model() else None


def _asked(recorded: RecordedSettings) -> str | None:
    model, address = recorded.text("model"), recorded.text("base_url")
    return f"{model} at {address}" if model and address else None


def _info(served: Served) -> RunInfo:
    try:
        labels = served.labels.now()
    except AutointerpError:  # the run has not come so far; what there is can be looked at
        labels = None
    return RunInfo(
        name=served.name,
        sae=labels.sae if labels else "",
        total=labels.total if labels else 0,
        columns=list(labels.columns.values()) if labels else [],
        asks=_asks(served.own),
        asked=_asked(served.run.settings()),
        meaning=is_installed(),
        meaning_ready=served.meanings.ready,
        default_metric=labels.default_metric if labels else None,
    )
