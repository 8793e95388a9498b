"""The JSON routes that show what the model would do, and why; they store nothing."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Annotated

import anyio
import fastapi
import pydantic
import pydantic_core

from hrnn_jax.errors import InputError
from hrnn_jax.live.events import Event
from hrnn_jax.live.explain import Explanation, explain
from hrnn_jax.live.preview import preview

from . import schemas
from .error_responses import describe_errors
from .routes import INSPECTION, LONG_REQUESTS, Service, StrictRoute, checked, entries
from .schemas import TextId

_MOST_EXPLAINED = 100  # items in one request


def preview_routes(service: Service) -> fastapi.APIRouter:
    """Make the route that follows given events.

    Returns:
        The router of POST /preview.
    """
    router = fastapi.APIRouter(
        responses=describe_errors(400, 401, 413, 415, 422, 503), route_class=StrictRoute
    )
    limiter = anyio.CapacityLimiter(LONG_REQUESTS)

    class PreviewQuery(schemas.RequestModel):
        k: schemas.Count = pydantic.Field(
            10, ge=1, le=service.max_k, description="items recommended after each event"
        )
        exclude_seen: bool = pydantic.Field(
            False, description="leave out the items of the events so far"
        )

    @router.post(
        "/preview",
        response_model=schemas.PreviewedSteps,
        tags=[INSPECTION],
        summary="Follow the events of a newcomer without storing them.",
    )
    async def preview_events(
        body: schemas.Preview, query: Annotated[PreviewQuery, fastapi.Query()]
    ) -> fastapi.Response:
        """Follow the events of a newcomer, and list what is recommended after each of them.

        Nothing is stored or counted. Times and sessions count as in POST /events, so that a
        person's own events can be sent to see the lists without what that person did before. One
        answer has at most 20,000 recommendations, the events times k.
        """
        network = service.batcher.recommender.network
        events = await checked(
            (Event(e.item, "newcomer", e.time, e.session) for e in body.events),
            any_year=network.trained.any_year,
        )

        def encoded() -> bytes:
            steps = preview(
                network,
                events,
                query.k,
                exclude_seen=query.exclude_seen,
                limit=schemas.MAX_RECOMMENDATIONS,
            )
            # In plain dictionaries, as histories are.
            listed = [
                {
                    "outcome": step.outcome,
                    "recommendations": entries(step.recommended, service.catalogue),
                }
                for step in steps
            ]
            return pydantic_core.to_json({"events": listed}, inf_nan_mode="null")

        content = await anyio.to_thread.run_sync(encoded, limiter=limiter)
        return fastapi.Response(content, media_type="application/json")

    return router


def explanation_routes(service: Service) -> fastapi.APIRouter:
    """Make the routes that take scores apart.

    Returns:
        The router of GET /users/USER/explanations and /sessions/SESSION/explanations.
    """
    router = fastapi.APIRouter(responses=describe_errors(401, 422, 503))
    limiter = anyio.CapacityLimiter(LONG_REQUESTS)

    class ExplanationQuery(schemas.RequestModel):
        item: list[TextId] = pydantic.Field(
            min_length=1, max_length=_MOST_EXPLAINED, description="items to explain"
        )

    class UserExplanationQuery(ExplanationQuery):
        after: schemas.EventPlace = pydantic.Field(
            None,
            description="SESSION.EVENT, both as in the history and from 0: explain the list right "
            "after this event; by default the one now",
        )

    async def explanations(
        items: Sequence[str], after: str | None = None, **key: str
    ) -> schemas.Explanations:
        recommender, catalogue = service.batcher.recommender, service.catalogue

        def explained() -> list[Explanation]:
            network = recommender.network
            indices = network.indices("items", items)
            try:
                session, _, place = (after or "").partition(".")
                event = (int(session), int(place)) if after else None
                state = recommender.state_after(**key, event=event)
            except InputError as error:
                raise fastapi.HTTPException(404, str(error)) from error
            if recommender.network is not network:  # reloaded: the state may be of either
                return explained()
            return explain(network, state, indices)

        found = await anyio.to_thread.run_sync(explained, limiter=limiter)
        return schemas.Explanations(
            explanations=[
                schemas.Explanation(
                    item=one.item,
                    score=one.score,
                    parts=[schemas.Part.model_validate(part) for part in _named(one.parts)],
                    neighbours=[
                        schemas.Neighbour(item=item, value=value, **catalogue.of(item))
                        for item, value in one.neighbours
                    ],
                    **catalogue.of(one.item),
                )
                for one in found
            ]
        )

    @router.get(
        "/users/{id:any}/explanations",
        response_model_exclude_none=True,
        responses=describe_errors(404),
        tags=[INSPECTION],
        summary="Say why items are recommended to a user.",
    )
    async def explain_user(
        id: TextId, query: Annotated[UserExplanationQuery, fastapi.Query()]
    ) -> schemas.Explanations:
        """Say of some items why they have their scores, now or right after an earlier event.

        The parts of a score add up to it. Items that the model does not know, or that cannot be
        next, are left out.
        """
        return await explanations(query.item, query.after, user=id)

    @router.get(
        "/sessions/{id:any}/explanations",
        response_model_exclude_none=True,
        tags=[INSPECTION],
        summary="Say why items are recommended in an anonymous session.",
    )
    async def explain_session(
        id: TextId, query: Annotated[ExplanationQuery, fastapi.Query()]
    ) -> schemas.Explanations:
        """Say of some items why they have their scores in an anonymous session now."""
        return await explanations(query.item, session=id)

    return router


def _named(parts: Mapping[str, float]) -> list[dict[str, object]]:
    return [{"name": name, "value": value} for name, value in parts.items()]


def popular_routes(service: Service) -> fastapi.APIRouter:
    """Make the route of popular items.

    Returns:
        The router of GET /popular.
    """
    router = fastapi.APIRouter(responses=describe_errors(401, 422, 503))

    @router.get(
        "/popular",
        response_model_exclude_none=True,
        tags=[INSPECTION],
        summary="List the most popular items.",
    )
    async def list_popular(
        query: Annotated[schemas.Popular, fastapi.Query()],
    ) -> schemas.PopularItems:
        """List the items with the most stored events of all users: the same for everybody.

        It is a measure for what is recommended. The events are counted again now and then; some
        minutes may pass if there are millions of them.
        """
        network, catalogue = service.batcher.recommender.network, service.catalogue
        counted = (await service.overview.counts()).popular
        # Of the items that other weights knew, these may not.
        known = ((i, n) for text, n in counted for i in network.indices("items", [text]))
        items = [(network.trained.items[i], n) for i, n in itertools.islice(known, query.k)]
        return schemas.PopularItems(
            popular=[
                schemas.PopularItem(item=item, events=n, **catalogue.of(item)) for item, n in items
            ]
        )

    return router
