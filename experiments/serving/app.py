"""The web application around a recommender: JSON over HTTP, a page, OpenAPI and Prometheus.

What a client sends cannot bring it down: whatever is wrong with a request is told in one line,
with a status of 4xx. 503 says that nothing was changed, for the state file cannot be written or
too much is waiting.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import math
import pathlib
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Annotated, Any

import fastapi
import prometheus_client
import pydantic
import swagger_ui_bundle
from fastapi import exceptions, responses, security
from fastapi.openapi import docs
from starlette import concurrency, convertors

from hrnn_jax import errors
from hrnn_jax.ids_and_times import Id, id_text
from hrnn_jax.live.events import Event, check_event
from hrnn_jax.live.requests import Request

from . import batcher as serving_batcher
from . import middleware, prometheus, schemas

PAGE = pathlib.Path(__file__).parent / "page"
SWAGGER = pathlib.Path(swagger_ui_bundle.swagger_ui_path)
SWAGGER_FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")
_HOUR = 3_600  # seconds
_LONGEST_REASON = 300  # characters
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.Error, "description": description}
    for status, description in {
        400: "The body cannot be read.",
        401: "The service has a token, and it was not given.",
        413: "The body is too large.",
        415: "The body is not sent as application/json.",
        422: "Something in the request cannot be.",
        503: "The state file cannot be written, or too much is waiting: nothing was changed.",
    }.items()
}
_READ = {status: _ERRORS[status] for status in (401, 422, 503)}


class _AnyText(convertors.PathConvertor):
    """An id in a path: it may hold a / and, to be told that it may not, a line break."""

    regex = r"[\s\S]*"


convertors.register_url_convertor("any", _AnyText())


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the service is told when it starts."""

    model: str  # its name
    data: str  # in a few words
    simulated: bool
    given_sessions: bool  # the run's sessions were given by a column of its log
    token: bytes | None = None  # the bearer token that it asks for
    max_body_bytes: int = 2**20
    max_k: int = 1_000
    keep_sessions_seconds: float = math.inf  # idle for longer, anonymous ones are forgotten


def build(
    batcher: serving_batcher.Batcher, measured: prometheus.Meters, settings: Settings
) -> fastapi.FastAPI:
    """Make the application; who starts it closes the batcher afterwards."""

    @contextlib.asynccontextmanager
    async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
        forgetting = asyncio.create_task(_forget(batcher, settings.keep_sessions_seconds))
        yield
        forgetting.cancel()

    app = fastapi.FastAPI(
        title="hrnn_jax",
        summary="Recommends the next items to users and in anonymous sessions.",
        version="1",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.openapi_version = "3.0.3"
    app.add_exception_handler(400, _refuse_body)
    app.add_exception_handler(errors.InputError, _refuse)
    app.add_exception_handler(exceptions.RequestValidationError, _refuse_shape)
    app.add_exception_handler(errors.StorageError, _postpone)
    app.add_exception_handler(serving_batcher.BusyError, _postpone)
    asking, pages = fastapi.APIRouter(), fastapi.APIRouter()
    if settings.token:  # the gate checks it; this describes it
        asking.dependencies.append(fastapi.Depends(security.HTTPBearer(auto_error=False)))
    _recommend(asking, batcher, settings.max_k)
    _take_events(asking, batcher, measured)
    _list(asking, batcher, measured)
    _health(pages, batcher, settings)
    _pages(pages)
    app.include_router(asking)  # first, as routes are looked for in this order
    app.include_router(pages)
    open_paths = [app.openapi_url, *(route.path for route in pages.routes)]
    measured.model.info({"name": settings.model, "data": settings.data})
    app.add_middleware(
        middleware.Gate,
        measured=measured,
        token=settings.token,
        open_paths=open_paths,
        max_body_bytes=settings.max_body_bytes,
    )
    return app


def _take_events(
    router: fastapi.APIRouter, batcher: serving_batcher.Batcher, measured: prometheus.Meters
) -> None:
    documented: dict[str, Any] = {"responses": _ERRORS, "response_model": schemas.Outcomes}

    async def observe(events: list[Event]) -> dict[str, Any]:
        for n, event in enumerate(events):
            try:
                check_event(event)  # alone, before it shares a batch
            except errors.InputError as error:
                raise errors.InputError(f"event {n}: {error}") from None
        outcomes = await batcher.observe(events)
        for outcome in outcomes:
            measured.events.labels(outcome).inc()
        return {"outcomes": outcomes}

    @router.post("/events", **documented)
    async def take_events(
        body: Annotated[schemas.AnyEvents, fastapi.Body()],
    ) -> Any:
        """Take in events of users, all or none. When this is answered, they are on disk.

        Outcomes, in order: observed; unknown_item, one that the network does not know and that
        does nothing; repeat, of an item that the session had, where the network was trained
        without such; duplicate, of a known event_id.
        """
        several = body.events if isinstance(body, schemas.Events) else [body]
        return await observe(
            [Event(e.item, e.user, e.time, e.session, e.event_id) for e in several]
        )

    @router.post("/sessions/{id:any}/events", **documented)
    async def take_session_events(
        id: schemas.PathId, body: Annotated[schemas.AnySessionEvents, fastapi.Body()]
    ) -> Any:
        """Take in events of an anonymous session, as above."""
        several = body.events if isinstance(body, schemas.SessionEvents) else [body]
        return await observe(
            [Event(e.item, time=e.time, session=id, event_id=e.event_id) for e in several]
        )


def _recommend(router: fastapi.APIRouter, batcher: serving_batcher.Batcher, max_k: int) -> None:
    class Asked(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="forbid")
        k: int = pydantic.Field(10, ge=1, le=max_k, description="items, fewer if no more are left")
        exclude_seen: bool = pydantic.Field(False, description="leave out what the user has had")
        exclude: list[schemas.PathId] = pydantic.Field([], description="items to leave out")
        candidates: list[schemas.PathId] = pydantic.Field(
            [], description="items to choose from; all if none is given"
        )

    documented: dict[str, Any] = {"responses": _READ, "response_model": schemas.Recommendations}

    async def recommended(asked: Asked, **who: str) -> dict[str, Any]:
        request = Request(
            **who,
            k=asked.k,
            exclude=asked.exclude,
            exclude_seen=asked.exclude_seen,
            candidates=asked.candidates or None,
        )
        _check_ids([*who.values(), *asked.exclude, *asked.candidates])
        return {"recommendations": _scored(await batcher.recommend(request))}

    @router.get("/users/{id:any}/recommendations", **documented)
    async def recommend_to_a_user(
        id: schemas.PathId, asked: Annotated[Asked, fastapi.Query()]
    ) -> Any:
        """Recommend what comes next to a user, best first; to an unknown one, what most like."""
        return await recommended(asked, user=id)

    @router.get("/sessions/{id:any}/recommendations", **documented)
    async def recommend_in_a_session(
        id: schemas.PathId, asked: Annotated[Asked, fastapi.Query()]
    ) -> Any:
        """Recommend what comes next in an anonymous session."""
        return await recommended(asked, session=id)

    class Past(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="forbid")
        sessions: int = pydantic.Field(10, ge=1, le=schemas.MOST_ROWS, description="the last")
        k: int = pydantic.Field(10, ge=1, le=max_k, description="items recommended at each event")

    @router.get("/users/{id:any}/history", response_model=schemas.History, responses=_READ)
    async def history(id: schemas.PathId, past: Annotated[Past, fastapi.Query()]) -> Any:
        """List a user's events by session, with what was recommended right after each."""
        _check_ids([id])
        # Beside the batches: to replay a long past takes some tenths of a second.
        steps = await concurrency.run_in_threadpool(
            batcher.recommender.history, user=id, sessions=past.sessions, k=past.k
        )
        sessions = [
            {
                "session": number,
                "events": [
                    {
                        "item": step.item,
                        "time": step.time,
                        "recommendations": _scored(step.recommended),
                    }
                    for step in some
                ],
            }
            for number, some in itertools.groupby(steps, key=lambda step: step.session)
        ]
        return {"sessions": sessions}


def _list(
    router: fastapi.APIRouter, batcher: serving_batcher.Batcher, measured: prometheus.Meters
) -> None:
    recommender = batcher.recommender

    @router.get("/users", response_model=schemas.Users, responses=_READ)
    async def users(listed: Annotated[schemas.Listed, fastapi.Query()]) -> Any:
        """List users, and how many events each has had."""
        found = await batcher.call(recommender.users, listed.prefix, listed.limit)
        return {"users": [{"user": user, "events": events} for user, events in found]}

    @router.get("/items", response_model=schemas.Items, responses=_READ)
    async def items(listed: Annotated[schemas.Listed, fastapi.Query()]) -> Any:
        """List items that the network knows."""
        known = recommender.trained.items
        found = (item for item in known if str(item).startswith(listed.prefix))
        return {"items": list(itertools.islice(found, listed.limit))}

    @router.get("/metrics", response_class=responses.PlainTextResponse, responses=_READ)
    async def metrics() -> fastapi.Response:
        """Tell counts and times, for Prometheus."""
        text = measured.text(states=await batcher.call(len, recommender))
        return fastapi.Response(text, media_type=prometheus_client.CONTENT_TYPE_LATEST)

    gone: dict[str, Any] = {
        "status_code": 204,
        "responses": _READ | {404: {"model": schemas.Error, "description": "Nothing is kept."}},
    }

    async def forget(**who: str) -> None:
        _check_ids(who.values())
        if not await batcher.call(lambda: recommender.forget(**who)):
            [(what, id)] = who.items()
            raise fastapi.HTTPException(404, f"nothing is kept of {what} {id!r}")

    @router.delete("/users/{id:any}", **gone)
    async def forget_a_user(id: schemas.PathId) -> None:
        """Delete all that is kept of a user."""
        await forget(user=id)

    @router.delete("/sessions/{id:any}", **gone)
    async def forget_a_session(id: schemas.PathId) -> None:
        """Delete all that is kept of an anonymous session."""
        await forget(session=id)


def _health(
    router: fastapi.APIRouter, batcher: serving_batcher.Batcher, settings: Settings
) -> None:
    recommender = batcher.recommender

    @router.get("/health", response_model=schemas.Health)
    async def health() -> Any:
        """Tell what is served, once the thread that recommends has answered."""
        return {
            "status": "ok",
            "model": settings.model,
            "data": settings.data,
            "simulated": settings.simulated,
            "items": len(recommender.trained.items),
            "states": await batcher.call(len, recommender),
            "given_sessions": settings.given_sessions,
        }


def _pages(router: fastapi.APIRouter) -> None:
    """Serve the page at /, its files beside it, and the description of all this at /docs."""

    def file(at: str, path: pathlib.Path) -> None:
        @router.get(at, include_in_schema=False)
        async def content() -> responses.FileResponse:
            return responses.FileResponse(path)

    for path in sorted(PAGE.iterdir()):
        file("/" if path.name == "index.html" else f"/{path.name}", path)
    for name in SWAGGER_FILES:
        file(f"/docs/{name}", SWAGGER / name)

    @router.get("/docs", include_in_schema=False)
    async def description() -> responses.HTMLResponse:
        page = docs.get_swagger_ui_html(
            openapi_url="openapi.json",
            title="hrnn_jax",
            swagger_js_url=f"docs/{SWAGGER_FILES[0]}",
            swagger_css_url=f"docs/{SWAGGER_FILES[1]}",
            swagger_favicon_url=f"docs/{SWAGGER_FILES[2]}",
        )
        # It starts itself by a script in the page, and styles its parts one by one.
        page.headers["Content-Security-Policy"] = (
            "default-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
        )
        return page


async def _forget(batcher: serving_batcher.Batcher, seconds: float) -> None:
    """Forget idle anonymous sessions, at once and then every hour."""
    while True:
        with contextlib.suppress(errors.StorageError):  # a full disk may have room in an hour
            await batcher.call(batcher.recommender.forget_idle_sessions, seconds)
        await asyncio.sleep(_HOUR)


def _check_ids(ids: Iterable[str]) -> None:
    for given in ids:
        id_text("id", given)


def _scored(found: Sequence[tuple[Id, float]]) -> list[dict[str, Any]]:
    return [{"item": item, "score": score} for item, score in found]


def _line(reason: object) -> str:
    """Keep a reason to a line, however much a client put into it."""
    return " ".join(str(reason).split())[:_LONGEST_REASON]


async def _refuse_body(request: fastapi.Request, error: Exception) -> responses.JSONResponse:
    said = "the body cannot be read: send JSON in UTF-8, with whole numbers of at most 64 bits"
    return responses.JSONResponse({"detail": said}, status_code=400)


async def _refuse(request: fastapi.Request, error: Exception) -> responses.JSONResponse:
    return responses.JSONResponse({"detail": _line(error)}, status_code=422)


async def _refuse_shape(request: fastapi.Request, error: Exception) -> responses.JSONResponse:
    assert isinstance(error, exceptions.RequestValidationError)
    first = error.errors()[0]
    where = [str(part) for part in first["loc"] if part not in schemas.TAGS]
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if where == ["body"] and not kind.endswith("json"):
        said = "send the body as JSON, with Content-Type: application/json"
        return responses.JSONResponse({"detail": said}, status_code=415)
    reason = first.get("ctx", {}).get("error", first["msg"])
    said = _line(f"{'.'.join(where)}: {reason}")
    return responses.JSONResponse({"detail": said}, status_code=422)


async def _postpone(request: fastapi.Request, error: Exception) -> responses.JSONResponse:
    return responses.JSONResponse(
        {"detail": _line(error)}, status_code=503, headers={"Retry-After": "1"}
    )
