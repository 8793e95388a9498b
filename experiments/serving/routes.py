"""The JSON routes: events in; recommendations, histories, listings, metrics and health out."""

import asyncio
import collections
import itertools
import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any, NamedTuple

import anyio
import fastapi
import prometheus_client
import pydantic
import pydantic_core
from fastapi.responses import PlainTextResponse, Response
from fastapi.routing import APIRoute
from starlette.convertors import PathConvertor, register_url_convertor

from hrnn_jax.errors import InputError
from hrnn_jax.ids_and_times import Id
from hrnn_jax.live.events import Event, Outcome, Request, check_event
from hrnn_jax.live.recommender import Step

from . import schemas
from .batcher import Batcher
from .error_responses import describe_errors
from .prometheus import ServiceMetrics
from .schemas import TextId

LISTS = ("exclude", "candidates")  # parameters that may be given several times
_LONG_REQUESTS = 2  # histories and searches that are made at a time; others wait
_BRACKETS = 16_384  # in a body; 349,000 lists would stop the event loop for a quarter of a second
_EVENTS_OF_A_STEP = 100  # that are checked before other requests have a turn


class _AnyText(PathConvertor):
    """An id in a path: it may hold a / and, so that it is refused with a reason, a line break."""

    regex = r"[\s\S]*"


register_url_convertor("any", _AnyText())


class _StrictRequest(fastapi.Request):
    async def json(self) -> Any:
        """Return the body; FastAPI calls this."""
        return read_json(await self.body())


def read_json(body: bytes) -> Any:
    """Return a body, in which no object has a key twice: one of the values would get lost.

    Raises:
        HTTPException: it has a key twice, or too many brackets.
        ValueError: it is no JSON.
        RecursionError: it is too deep.
    """
    if body.count(b"[") + body.count(b"{") > _BRACKETS:
        raise fastapi.HTTPException(
            422, f"the body has more than {_BRACKETS:,} brackets: send fewer events"
        )
    return json.loads(body, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        [(twice, _)] = collections.Counter(name for name, _ in pairs).most_common(1)
        raise fastapi.HTTPException(422, f"body.{twice[:40]!r}: give it once")
    return made


class StrictRoute(APIRoute):
    """A route whose body is refused where an object has a key twice."""

    def get_route_handler(self) -> Callable[[fastapi.Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request; FastAPI calls this."""
        answer = super().get_route_handler()

        async def answer_strictly(request: fastapi.Request) -> Response:
            return await answer(_StrictRequest(request.scope, request.receive))

        return answer_strictly


async def refuse_repeated(request: fastapi.Request) -> None:
    """Raise InputError for a parameter that is given twice, but for those that are lists."""
    counts = collections.Counter(name for name, _ in request.query_params.multi_items())
    if repeated := [name for name, n in counts.items() if n > 1 and name not in LISTS]:
        raise InputError(f"query.{repeated[0]}: give it once")


class Service(NamedTuple):
    """What the routes work with."""

    batcher: Batcher
    metrics: ServiceMetrics
    max_k: int  # the longest list that a request may ask for
    max_body_bytes: int


async def observe(
    service: Service, body: schemas.RequestModel, session: str | None = None
) -> list[Outcome]:
    """Observe the events of a body, of users or of an anonymous session.

    Raises:
        InputError, StorageError, BusyError: see `Batcher.observe`.
    """
    several = body.events if isinstance(body, schemas.Several) else [body]
    events: list[Event] = []
    any_year = service.batcher.recommender.trained.any_year
    for n, given in enumerate(several):
        if n and n % _EVENTS_OF_A_STEP == 0:
            await asyncio.sleep(0)
        events.append(Event(**{"session": session, **dict(given)}))
        try:  # now, so that it does not make a batch with other requests fail
            check_event(events[-1], any_year=any_year)
        except InputError as error:
            raise InputError(f"event {n}: {error}") from None
    outcomes = await service.batcher.observe(events)
    for outcome, count in collections.Counter(outcomes).items():
        service.metrics.events.labels(outcome).inc(count)
    return outcomes


async def recommend(
    service: Service, kind: str, id_: str, query: pydantic.BaseModel
) -> list[tuple[Id, float]]:
    """Recommend to a user or in a session, by a `schemas.recommendation_query`.

    Raises:
        InputError, StorageError, BusyError: see `Batcher.recommend`.
    """
    given = query.model_dump(exclude_unset=True)
    return await service.batcher.recommend(Request(**{kind: id_}, **given))


def event_routes(service: Service) -> fastapi.APIRouter:
    """Make the routes that take events in.

    Returns:
        The router of POST /events and POST /sessions/SESSION/events.
    """
    router = fastapi.APIRouter(
        responses=describe_errors(400, 401, 413, 415, 422, 503), route_class=StrictRoute
    )

    @router.post("/events")
    async def post_events(
        body: Annotated[schemas.AnyEvents, fastapi.Body()],
    ) -> schemas.Outcomes:
        """Observe events of users, all or none. The answer comes after they are on disk.

        Outcomes, in order: observed; unknown_item, an item that the model does not know, which
        changes nothing; repeat, an item that the session has already, for a model trained without
        repeats; duplicate, an event_id that is known already.
        """
        return schemas.Outcomes(outcomes=await observe(service, body))

    @router.post("/sessions/{id:any}/events")
    async def post_session_events(
        id: TextId, body: Annotated[schemas.AnySessionEvents, fastapi.Body()]
    ) -> schemas.Outcomes:
        """Observe events of an anonymous session, as above."""
        return schemas.Outcomes(outcomes=await observe(service, body, id))

    return router


def recommendation_routes(service: Service) -> fastapi.APIRouter:
    """Make the routes that recommend.

    Returns:
        The router of GET /users/USER/recommendations, /sessions/SESSION/recommendations and
        /users/USER/history.
    """
    router = fastapi.APIRouter(responses=describe_errors(401, 422, 503))
    RecommendationQuery = schemas.recommendation_query(service.max_k)

    class HistoryQuery(schemas.RequestModel):
        sessions: schemas.Count = pydantic.Field(
            10, ge=1, le=schemas.MAX_ROWS, description="number of sessions, the last ones"
        )
        k: schemas.Count = pydantic.Field(
            10, ge=1, le=service.max_k, description="items recommended at each event"
        )

    def add_recommendations(kind: str) -> None:
        @router.get(f"/{kind}s/{{id:any}}/recommendations")
        async def get_recommendations(
            id: TextId,
            query: Annotated[RecommendationQuery, fastapi.Query()],  # pyright: ignore[reportInvalidTypeForm]
        ) -> schemas.Recommendations:
            """Recommend the next items, best first; without stored events those of a newcomer."""
            ranked = await recommend(service, kind, id, query)
            return schemas.Recommendations(recommendations=_scored(ranked))

    add_recommendations("user")
    add_recommendations("session")

    limiter = anyio.CapacityLimiter(_LONG_REQUESTS)

    @router.get("/users/{id:any}/history", response_model=schemas.History)
    async def get_history(
        id: TextId, query: Annotated[HistoryQuery, fastapi.Query()]
    ) -> fastapi.Response:
        """List a user's events by session, with the recommendations right after each.

        One answer has at most 20,000 recommendations, the events of these sessions times k: ask for
        fewer sessions or for a smaller k otherwise.
        """

        def encoded_history() -> bytes:
            steps = service.batcher.recommender.history(
                user=id, sessions=query.sessions, k=query.k, limit=schemas.MAX_RECOMMENDATIONS
            )
            return pydantic_core.to_json(_by_session(steps), inf_nan_mode="null")

        # In a thread of its own, with the encoding: both take some tenths of a second.
        content = await anyio.to_thread.run_sync(encoded_history, limiter=limiter)
        return fastapi.Response(content, media_type="application/json")

    return router


def listing_routes(service: Service) -> fastapi.APIRouter:
    """Make the routes that list what is stored, or delete it.

    Returns:
        The router of GET /users, /items and /metrics, and of DELETE for users and sessions.
    """
    router = fastapi.APIRouter(responses=describe_errors(401, 422, 503))
    batcher, metrics = service.batcher, service.metrics
    recommender = batcher.recommender
    limiter = anyio.CapacityLimiter(_LONG_REQUESTS)

    @router.get("/users")
    async def list_users(query: Annotated[schemas.Listing, fastapi.Query()]) -> schemas.Users:
        """List users, and the number of events of each."""
        users = await batcher.call(recommender.users, query.prefix, query.limit)
        return schemas.Users(users=[schemas.User(user=user, events=n) for user, n in users])

    @router.get("/items")
    async def list_items(query: Annotated[schemas.Listing, fastapi.Query()]) -> schemas.Items:
        """List items that the model knows."""

        def found() -> list[Id]:
            items = (i for i in recommender.trained.items if str(i).startswith(query.prefix))
            return list(itertools.islice(items, query.limit))

        # In a thread of its own: of a million items it takes some tenths of a second.
        return schemas.Items(items=await anyio.to_thread.run_sync(found, limiter=limiter))

    @router.get("/metrics", response_class=PlainTextResponse)
    async def get_metrics() -> fastapi.Response:
        """Return counts and times in Prometheus' text format."""
        states = await batcher.call(len, recommender)
        text = metrics.text(states, rebuilt=recommender.counts["rebuilt"])
        return fastapi.Response(text, media_type=prometheus_client.CONTENT_TYPE_LATEST)

    def add_deletion(kind: str) -> None:
        @router.delete(f"/{kind}s/{{id:any}}", status_code=204, responses=describe_errors(404))
        async def delete(id: TextId) -> None:
            """Delete everything stored about a user or an anonymous session."""
            if not await batcher.call(lambda: recommender.forget(**{kind: id})):
                raise fastapi.HTTPException(404, f"nothing is stored about {kind} {id!r}")

    add_deletion("user")
    add_deletion("session")

    return router


def _by_session(steps: Sequence[Step]) -> dict[str, Any]:
    """Return what `schemas.History` describes.

    In plain dictionaries: to make 20,000 models, the garbage collector would stop all threads.
    """
    return {
        "sessions": [
            {
                "session": number,
                "events": [
                    {
                        "recommendations": [
                            {"item": item, "score": score} for item, score in step.recommended
                        ],
                        "item": step.item,
                        "time": step.time,
                    }
                    for step in group
                ],
            }
            for number, group in itertools.groupby(steps, key=lambda step: step.session)
        ]
    }


def _scored(ranked: Sequence[tuple[Id, float]]) -> list[schemas.Recommendation]:
    return [schemas.Recommendation(item=item, score=score) for item, score in ranked]
