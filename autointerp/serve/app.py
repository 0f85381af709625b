"""The server's application: the page, the JSON API under it, and how errors are answered."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.security import HTTPBearer
from starlette.types import ASGIApp

from autointerp.config.settings import RunConfig
from autointerp.errors import AutointerpError
from autointerp.plain_text import line_for_person
from autointerp.report.page import page_html
from autointerp.runs.directory import Run
from autointerp.serve.api_page import api_page
from autointerp.serve.filters import BadQuery
from autointerp.serve.meaning import NotInstalled, NotReady, ServerStopping
from autointerp.serve.reading import reading
from autointerp.serve.security import Guard
from autointerp.serve.served import Served
from autointerp.serve.shapes import Preparing, Problem, answer
from autointerp.serve.writing import writing
from autointerp.version import __version__

OPENAPI = "/api/openapi.json"
_TOKEN = (
    " Every request needs the token in the address that `autointerp serve` printed: "
    "as the header Authorization: Bearer TOKEN, as ?token=TOKEN, or in the cookie "
    "that opening the address sets."
)
_BEARER = HTTPBearer(auto_error=False)  # for the description alone: the guard asks for it
# A user's error on reading is that something is not there.
_STATUS: dict[type[AutointerpError], int] = {BadQuery: 422, NotInstalled: 501, ServerStopping: 503}
_RETRY_AFTER_S = 2


def create_app(run: Run, port: int, own: RunConfig, token: str | None) -> ASGIApp:
    """Everything behind one port. `own` are the settings of whoever serves the run.

    Without a `token` every account of this machine is let in. Raises AutointerpError.
    """
    served = Served(run, own)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=served.warm, name="warm", daemon=True).start()
        yield
        served.close()

    app = FastAPI(
        title="autointerp",
        version=__version__,
        description="Labels, scores and evidence of a run's features." + (_TOKEN if token else ""),
        openapi_url=OPENAPI,
        docs_url=None,  # FastAPI's own load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        dependencies=[Security(_BEARER)] if token else [],
        responses={status: {"model": Problem} for status in (401, 403, 404, 415, 421, 422)},
        exception_handlers={
            NotReady: _not_ready,
            AutointerpError: _user_error,
            RequestValidationError: _invalid,
            Exception: _broken,
        },
    )
    app.include_router(reading(served), prefix="/api")
    app.include_router(writing(served), prefix="/api")

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        html, policy = page_html(None)
        return HTMLResponse(html, headers={"Content-Security-Policy": policy})

    @app.get("/api", include_in_schema=False)
    def api() -> Response:
        html, policy = api_page(app.openapi())
        return HTMLResponse(html, headers={"Content-Security-Policy": policy})

    return Guard(app, port, token)


async def _not_ready(_request: Request, error: Exception) -> Response:
    assert isinstance(error, NotReady)
    preparing = Preparing(line_for_person(error), error.progress)
    return answer(preparing, 202, {"Retry-After": str(_RETRY_AFTER_S)})


async def _user_error(_request: Request, error: Exception) -> Response:
    status = next((n for kind, n in _STATUS.items() if isinstance(error, kind)), 404)
    return answer(Problem(line_for_person(error)), status)


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    said = str(first["msg"]).removeprefix("Value error, ")
    return answer(Problem(line_for_person(f"{where}: {said}" if where else said)), 422)


async def _broken(_request: Request, error: Exception) -> Response:
    # The server prints the traceback where it was started.
    return answer(
        Problem(f"this failed ({type(error).__name__}), which is a bug in autointerp"), 500
    )
