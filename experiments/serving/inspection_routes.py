"""The JSON routes that show what the model would do, and why; they store nothing."""

from typing import Annotated

import anyio
import fastapi
import pydantic

from hrnn_jax.live.events import Event
from hrnn_jax.live.preview import preview

from . import schemas
from .batcher import Batcher
from .error_responses import describe_errors
from .item_catalogue import ItemCatalogue
from .routes import StrictRoute, check_events, scored

_AT_A_TIME = 2  # requests of each route that are computed; others wait


def preview_routes(batcher: Batcher, max_k: int, catalogue: ItemCatalogue) -> fastapi.APIRouter:
    """Make the route that follows given events.

    Args:
        batcher: of the network.
        max_k: the longest list that a request may ask for.
        catalogue: describes the items.

    Returns:
        The router of POST /preview.
    """
    router = fastapi.APIRouter(
        responses=describe_errors(400, 401, 413, 415, 422, 503), route_class=StrictRoute
    )
    limiter = anyio.CapacityLimiter(_AT_A_TIME)

    class PreviewQuery(schemas.RequestModel):
        k: schemas.Count = pydantic.Field(
            10, ge=1, le=max_k, description="items recommended after each event"
        )
        exclude_seen: bool = pydantic.Field(
            False, description="leave out the items of the events so far"
        )

    @router.post("/preview", response_model=schemas.PreviewedSteps)
    async def preview_events(
        body: schemas.Preview, query: Annotated[PreviewQuery, fastapi.Query()]
    ) -> fastapi.Response:
        """Follow the events of a newcomer, and list what is recommended after each of them.

        Nothing is stored or counted. Times and sessions count as in POST /events, so that a
        person's own events can be sent to see the lists without what that person did before. One
        answer has at most 20,000 recommendations, the events times k.
        """
        network = batcher.recommender.network
        events = [Event(e.item, "newcomer", e.time, e.session) for e in body.events]
        check_events(events, any_year=network.trained.any_year)

        def encoded() -> str:
            steps = preview(
                network,
                events,
                query.k,
                exclude_seen=query.exclude_seen,
                limit=schemas.MAX_RECOMMENDATIONS,
            )
            return schemas.PreviewedSteps(
                events=[
                    schemas.PreviewedStep(
                        outcome=step.outcome, recommendations=scored(step.recommended, catalogue)
                    )
                    for step in steps
                ]
            ).model_dump_json(exclude_none=True)

        content = await anyio.to_thread.run_sync(encoded, limiter=limiter)
        return fastapi.Response(content, media_type="application/json")

    return router
