"""The JSON routes: events in; recommendations, histories, listings, metrics and health out."""

import asyncio
import collections
import functools
import itertools
import json
from collections.abc import Callable, Coroutine, Iterable, Sequence
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
from .item_catalogue import ItemCatalogue
from .operation.prometheus import ServiceMetrics
from .overview import Overview
from .schemas import TextId

LISTS = ("exclude", "candidates", "item")  # parameters that may be given several times
# The groups of routes in the description of the API.
EVENTS, LISTS_OUT, INSPECTION = "Events in", "Recommendations out", "Previews and explanations"
STORED, OPERATION = "What is stored", "Operation"
GROUPS = {
    EVENTS: "Tell the service what people do, one event at a time or many at once.",
    LISTS_OUT: "Ask what to show to a person next. Asking changes nothing.",
    INSPECTION: "Look at what the model would do, and why. Nothing is stored.",
    STORED: "List the users and items that are known, and delete what is stored of a person.",
    OPERATION: "Watch the service: whether it works, and how fast.",
}
WHOM = {"user": "to a user", "session": "in an anonymous session"}
LONG_REQUESTS = 2  # of a kind, as histories, that are computed at a time; others wait
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


async def check_parameters(request: fastapi.Request) -> None:
    """Raise InputError for a parameter that the route does not have, or that is given twice.

    Those that are lists may come several times. The parameters of a route that has some are a
    `schemas.RequestModel`, which refuses others itself.
    """
    given = request.query_params
    if given and not request.scope["route"].dependant.query_params:
        raise InputError(f"query.{next(iter(given))}: this request has no parameters, leave it out")
    counts = collections.Counter(name for name, _ in given.multi_items())
    if repeated := [name for name, n in counts.items() if n > 1 and name not in LISTS]:
        raise InputError(f"query.{repeated[0]}: give it once")


class Service(NamedTuple):
    """What the routes work with."""

    batcher: Batcher
    metrics: ServiceMetrics
    max_k: int  # the longest list that a request may ask for
    max_body_bytes: int
    catalogue: ItemCatalogue  # describes the items
    overview: Overview  # knows who has the most sessions, and the popular items


async def checked(events: Iterable[Event], *, any_year: bool) -> list[Event]:
    """Return the events; other requests have their turns meanwhile.

    Raises:
        InputError: for the first invalid event, with its number.
    """
    found: list[Event] = []
    for n, event in enumerate(events):
        if n and n % _EVENTS_OF_A_STEP == 0:
            await asyncio.sleep(0)
        try:
            check_event(event, any_year=any_year)
        except InputError as error:
            raise InputError(f"event {n}: {error}") from None
        found.append(event)
    return found


async def observe(
    service: Service, body: schemas.RequestModel, session: str | None = None
) -> list[Outcome]:
    """Observe the events of a body, of users or of an anonymous session.

    Raises:
        InputError, StorageError, BusyError: see `Batcher.observe`.
    """
    several = body.events if isinstance(body, schemas.Several) else [body]
    # Now, so that none makes a batch with other requests fail.
    events = await checked(
        (Event(**{"session": session, **dict(given)}) for given in several),
        any_year=service.batcher.recommender.trained.any_year,
    )
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

    @router.post("/events", tags=[EVENTS], summary="Take in events of users.")
    async def post_events(
        body: Annotated[schemas.AnyEvents, fastapi.Body()],
    ) -> schemas.Outcomes:
        """Observe events of users, all or none. The answer comes after they are on disk.

        Outcomes, in order: observed; unknown_item, an item that the model does not know, which
        changes nothing; repeat, an item that the session has already, for a model trained without
        repeats; duplicate, an event_id that is known already.
        """
        return schemas.Outcomes(outcomes=await observe(service, body))

    @router.post(
        "/sessions/{id:any}/events",
        tags=[EVENTS],
        summary="Take in events of an anonymous session.",
    )
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
        exclude_seen: bool = pydantic.Field(
            False, description="leave out the items of the user's events so far"
        )

    def add_recommendations(kind: str) -> None:
        @router.get(
            f"/{kind}s/{{id:any}}/recommendations",
            response_model_exclude_none=True,
            tags=[LISTS_OUT],
            summary=f"Recommend items {WHOM[kind]}.",
        )
        async def get_recommendations(
            id: TextId,
            query: Annotated[RecommendationQuery, fastapi.Query()],  # pyright: ignore[reportInvalidTypeForm]
        ) -> schemas.Recommendations:
            """Recommend the next items, best first; without stored events those of a newcomer."""
            ranked = await recommend(service, kind, id, query)
            listed = entries(ranked, service.catalogue)
            return schemas.Recommendations.model_validate({"recommendations": listed})

    add_recommendations("user")
    add_recommendations("session")

    limiter = anyio.CapacityLimiter(LONG_REQUESTS)

    @router.get(
        "/users/{id:any}/history",
        response_model=schemas.History,
        tags=[LISTS_OUT],
        summary="List what a user did, and what was recommended after each event.",
    )
    async def get_history(
        id: TextId, query: Annotated[HistoryQuery, fastapi.Query()]
    ) -> fastapi.Response:
        """List a user's events by session, with the recommendations right after each.

        One answer has at most 20,000 recommendations, the events of these sessions times k: ask for
        fewer sessions or for a smaller k otherwise.
        """

        def encoded_history() -> bytes:
            steps = service.batcher.recommender.history(
                user=id, limit=schemas.MAX_RECOMMENDATIONS, **query.model_dump()
            )
            sessions = _by_session(steps, service.catalogue)
            return pydantic_core.to_json(sessions, inf_nan_mode="null")

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
    catalogue, overview, recommender = service.catalogue, service.overview, batcher.recommender
    limiter = anyio.CapacityLimiter(LONG_REQUESTS)

    @router.get("/users", response_model_exclude_none=True, tags=[STORED], summary="List users.")
    async def list_users(query: Annotated[schemas.UserListing, fastapi.Query()]) -> schemas.Users:
        """List users, and the number of events of each."""
        if query.order == "visits":
            visits = (await overview.counts()).visits
            most = ((user, n) for user, n in visits.items() if user.startswith(query.prefix))
            return schemas.Users(
                users=[
                    schemas.User(user=user, events=n_events, visits=n_visits)
                    for user, (n_visits, n_events) in itertools.islice(most, query.limit)
                ]
            )
        users = await batcher.call(recommender.users, query.prefix, query.limit)
        return schemas.Users(
            users=[schemas.User(user=user, events=n, visits=None) for user, n in users]
        )

    @router.get(
        "/items",
        response_model_exclude_none=True,
        tags=[STORED],
        summary="Find items by their ids or titles.",
    )
    async def list_items(query: Annotated[schemas.Listing, fastapi.Query()]) -> schemas.Items:
        """List items that the model knows: those whose id starts with the prefix.

        With a file of items those follow whose title has it, in upper or lower case.
        """
        items = recommender.trained.items
        # In a thread: a million titles take some tenths of a second.
        find = functools.partial(catalogue.find, query.prefix, items, query.limit)
        found = await anyio.to_thread.run_sync(find, limiter=limiter)
        titles = {str(i): catalogue.of(i)["title"] for i in found if "title" in catalogue.of(i)}
        return schemas.Items(items=found, titles=None if catalogue.path is None else titles)

    @router.get(
        "/metrics",
        response_class=PlainTextResponse,
        tags=[OPERATION],
        summary="Return the measurements of the service.",
    )
    async def get_metrics() -> fastapi.Response:
        """Return counts and times in the text format of Prometheus."""
        states = await batcher.call(len, recommender)
        text = metrics.text(states, rebuilt=recommender.counts["rebuilt"])
        return fastapi.Response(text, media_type=prometheus_client.CONTENT_TYPE_LATEST)

    def add_deletion(kind: str) -> None:
        @router.delete(
            f"/{kind}s/{{id:any}}",
            status_code=204,
            responses=describe_errors(404),
            tags=[STORED],
            summary=f"Forget {'a user' if kind == 'user' else 'an anonymous session'}.",
        )
        async def delete(id: TextId) -> None:
            """Delete everything stored about a user or an anonymous session."""
            found = True
            try:
                found = await batcher.call(lambda: recommender.forget(**{kind: id}))
            finally:  # an error may come when all is deleted but for what a disk still holds
                if found and kind == "user":
                    overview.forget(id)
            if not found:
                raise fastapi.HTTPException(404, f"nothing is stored about {kind} {id!r}")

    add_deletion("user")
    add_deletion("session")

    return router


def _by_session(steps: Sequence[Step], catalogue: ItemCatalogue) -> dict[str, Any]:
    """Return what `schemas.History` describes.

    In plain dictionaries: to make 20,000 models, the garbage collector would stop all threads.
    """
    return {
        "sessions": [
            {
                "session": number,
                "events": [
                    {
                        "recommendations": entries(step.recommended, catalogue),
                        "item": step.item,
                        "time": step.time,
                        **catalogue.of(step.item),
                    }
                    for step in group
                ],
            }
            for number, group in itertools.groupby(steps, key=lambda step: step.session)
        ]
    }


def entries(ranked: Sequence[tuple[Id, float]], catalogue: ItemCatalogue) -> list[dict[str, Any]]:
    """Return a list of items and scores as `schemas.Recommendation` describes them."""
    return [{"item": item, "score": score, **catalogue.of(item)} for item, score in ranked]
