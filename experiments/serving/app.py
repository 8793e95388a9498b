"""The web application around a recommender: JSON over HTTP, a page, OpenAPI and Prometheus.

An invalid request never stops the service: it gets a status of 4xx and one line that says why. A
status of 503 means that nothing was changed, because the state file cannot be written or too many
requests are waiting; that of a DELETE, that something may be left on the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import pathlib
from collections.abc import AsyncGenerator, Sequence

import fastapi
import swagger_ui_bundle
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool

from hrnn_jax.errors import StorageError
from hrnn_jax.live.recommender import Recommender

from . import schemas
from .batcher import Batcher
from .error_responses import add_error_handlers, describe_errors
from .hot_routes import HotRoutes
from .inspection_routes import explanation_routes, popular_routes, preview_routes
from .item_catalogue import ItemCatalogue
from .middleware import ServiceMiddleware
from .operation.prometheus import ServiceMetrics
from .operation.reload import Reloader, reload_routes
from .overview import Overview
from .routes import (
    GROUPS,
    OPERATION,
    Service,
    check_parameters,
    event_routes,
    listing_routes,
    recommendation_routes,
)

PAGE = pathlib.Path(__file__).parent / "page"
_SWAGGER = pathlib.Path(swagger_ui_bundle.swagger_ui_path)
_SWAGGER_FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")
_HOUR = 3_600  # seconds
_DESCRIPTION = (
    "Send the events of people as they happen, and ask for a list when a page is shown. Bodies and "
    "answers are JSON in UTF-8. An invalid request is answered with 4xx and one line in `detail` "
    "that says what is wrong; 503 means that nothing was changed, or of a DELETE that something "
    "may be left on the disk, and that the request may be sent again."
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a service."""

    model: str  # name
    data: str  # description in a few words
    simulated: bool
    given_sessions: bool  # the sessions of the training log came from a column
    token: bytes | None = None  # the bearer token that requests need
    max_body_bytes: int = 2**20
    max_k: int = 1_000
    keep_sessions_seconds: float = math.inf  # anonymous sessions idle for longer are deleted
    hosts: frozenset[str] | None = None  # names by which it may be called; None for any
    catalogue: ItemCatalogue = dataclasses.field(default_factory=ItemCatalogue)
    image_hosts: Sequence[str] = ()  # whose pictures of items the page may show


@dataclasses.dataclass
class Served:
    """What is served now: a reload changes the settings that tell of the run, and no others."""

    settings: Settings
    reloader: Reloader


def build(
    batcher: Batcher, metrics: ServiceMetrics, settings: Settings, served: Served | None = None
) -> fastapi.FastAPI:
    """Make the application.

    Args:
        batcher: calls the recommender. The caller closes it after the application has ended.
        metrics: get the counts and times of the service.
        settings: of the service.
        served: what is served, where that can be reloaded.

    Returns:
        The ASGI application.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: fastapi.FastAPI) -> AsyncGenerator[None]:
        deletion = asyncio.create_task(
            _delete_idle_sessions(batcher, settings.keep_sessions_seconds)
        )
        compiling = asyncio.create_task(compilation.run(batcher.recommender))
        yield
        deletion.cancel()
        await current.reloader.close()
        compilation.ends = True
        await compiling

    compilation = _Compilation()
    current = served or Served(settings, Reloader(batcher.recommender))
    app = fastapi.FastAPI(
        title="hrnn_jax",
        summary="Recommends the next items to users and in anonymous sessions.",
        description=_DESCRIPTION,
        openapi_tags=[{"name": name, "description": said} for name, said in GROUPS.items()],
        version="1",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.openapi_version = "3.0.3"
    answer_error = add_error_handlers(app)
    service = Service(
        batcher,
        metrics,
        settings.max_k,
        settings.max_body_bytes,
        settings.catalogue,
        Overview(batcher),
    )
    # The middleware checks the token; this only describes it in OpenAPI.
    token = [fastapi.Depends(HTTPBearer(auto_error=False))] if settings.token else []
    checks = [*token, fastapi.Depends(check_parameters)]
    for router in (
        event_routes(service),
        recommendation_routes(service),
        preview_routes(service),
        explanation_routes(service),
        popular_routes(service),
        listing_routes(service),
        reload_routes(current.reloader, OPERATION),
    ):
        app.include_router(router, dependencies=checks)
    public = _public_routes(batcher, current, compilation)
    app.include_router(public)
    metrics.model.info({"name": settings.model, "data": settings.data})
    app.add_middleware(HotRoutes, service=service, on_error=answer_error)
    app.add_middleware(  # the last one is the outermost
        ServiceMiddleware,
        metrics=metrics,
        token=settings.token,
        open_paths=[
            "/openapi.json",
            *(route.path for route in public.routes if isinstance(route, APIRoute)),
        ],
        max_body_bytes=settings.max_body_bytes,
        hosts=settings.hosts,
        image_hosts=settings.image_hosts,
    )
    # FastAPI makes these at the first request, whose client and all others would wait for them.
    for route in app.routes:
        route.matches({"type": "http", "method": "GET", "path": "/", "headers": []})
    app.openapi()
    return app


class _Compilation:
    """The making of the programs that the start does not wait for.

    It has a thread of its own, as each program takes about a second, and requests go on meanwhile.
    """

    done = False
    ends = False  # the service has to stop

    async def run(self, recommender: Recommender) -> None:
        """Compile one program after the other."""
        for program in recommender.rare_programs():
            if self.ends:
                return
            await run_in_threadpool(program)
        self.done = True


def _public_routes(
    batcher: Batcher, served: Served, compilation: _Compilation
) -> fastapi.APIRouter:
    """Make the routes that need no token: the health check, the page, and the OpenAPI page."""
    router = fastapi.APIRouter()
    checks = [fastapi.Depends(check_parameters)]

    @router.head("/health", dependencies=checks, include_in_schema=False)
    @router.get(
        "/health",
        dependencies=checks,
        responses=describe_errors(422, 503),
        tags=[OPERATION],
        summary="Say whether the service works, and what it serves.",
    )
    async def get_health() -> schemas.Health:
        """Describe the service, once the thread that recommends has answered."""
        recommender = batcher.recommender
        await batcher.call(recommender.check_file)
        settings = served.settings
        return schemas.Health(
            status="ok",
            model=settings.model,
            data=settings.data,
            simulated=settings.simulated,
            items=len(recommender.trained.items),
            states=await batcher.call(len, recommender),
            given_sessions=settings.given_sessions,
            scores="log probabilities" if recommender.trained.config.places else "scores",
            image_hosts=list(settings.image_hosts),
            compiled=compilation.done,
            reload=served.reloader.health,
        )

    def add_file(path: str, file: pathlib.Path) -> None:
        @router.api_route(path, methods=["GET", "HEAD"], include_in_schema=False)
        async def get_file() -> FileResponse:
            return FileResponse(file)

    for file in sorted(PAGE.iterdir()):
        add_file("/" if file.name == "index.html" else f"/{file.name}", file)
    for name in _SWAGGER_FILES:
        add_file(f"/docs/{name}", _SWAGGER / name)

    @router.get("/docs", include_in_schema=False)
    async def get_docs() -> HTMLResponse:
        script, style, icon = (f"docs/{name}" for name in _SWAGGER_FILES)
        page = get_swagger_ui_html(
            openapi_url="openapi.json",
            title="hrnn_jax",
            swagger_js_url=script,
            swagger_css_url=style,
            swagger_favicon_url=icon,
        )
        # Swagger UI starts by a script in the page, and styles its elements one by one.
        page.headers["Content-Security-Policy"] = (
            "default-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
        )
        return page

    return router


async def _delete_idle_sessions(batcher: Batcher, seconds: float) -> None:
    """Delete anonymous sessions that have been idle for so long, at once and then every hour."""
    while True:
        with contextlib.suppress(StorageError):  # a full disk may have room in an hour
            steps = batcher.recommender.forgetting_idle_sessions(seconds)
            while await batcher.call(next, steps, None) is not None:
                pass  # requests that came meanwhile are done before the next step
        await asyncio.sleep(_HOUR)
