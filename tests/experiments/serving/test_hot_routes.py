"""A request that is answered without the framework has the answer that its route gives."""

import asyncio
import re

import httpx
import pytest

from experiments.serving import hot_routes
from experiments.serving.app import Settings, build
from experiments.serving.batcher import Batcher
from experiments.serving.operation.prometheus import ServiceMetrics
from hrnn_jax.files.checkpoint import load_run
from hrnn_jax.live.recommender import Recommender
from hrnn_jax.live.store import state_store

SETTINGS = Settings(
    model="HRNN Init",
    data="a log",
    simulated=False,
    given_sessions=False,
    max_k=50,
    max_body_bytes=2_000,
)
_COUNTS = r"^hrnn_(?:request_seconds_count|events_total|batch_size_count)\{.*"
PLAIN = [  # method, path, body
    ("POST", "/events", b'{"user": "u", "item": "i1", "time": 1600000000}'),
    ("POST", "/events", b'{"user": "u", "item": "i1", "event_id": 7, "time": 1600000001}'),
    ("POST", "/events", b'{"user": "u", "item": "i1", "event_id": "7", "time": 1600000001}'),
    ("POST", "/events", b'{"events": [{"user": "u", "item": 1}, {"user": "v", "item": "i3"}]}'),
    ("POST", "/sessions/a%2Fb/events", b'{"item": "i2", "time": 1600000000}'),
    ("POST", "/sessions/a%2Fb/events", b'{"events": [{"item": "i2"}]}'),
    ("GET", "/users/u/recommendations", None),
    ("GET", "/users/u/recommendations?k=3&exclude_seen=true", None),
    ("GET", "/users/u/recommendations?exclude=i1&exclude=i2&exclude=%C3%A9+&k=50", None),
    ("GET", "/users/u/recommendations?candidates=i5&candidates=i6", None),
    ("GET", "/users/nobody%20%E2%82%AC/recommendations", None),
    ("GET", "/sessions/a%2Fb/recommendations?k=2", None),
]
OTHERS = [
    ("POST", "/events", b'{"user": "u", "item": "i1", "user": "v"}'),
    ("POST", "/events", b'{"user": "u"}'),
    ("POST", "/events", b'{"user": "u", "item": ""}'),
    ("POST", "/events", b'{"user": "u", "item": "i1", "time": 1e99}'),
    ("POST", "/events", b'{"events": []}'),
    ("POST", "/events", b"\xff"),
    ("POST", "/events", b"[" * 1_500),
    ("POST", "/events", b""),
    ("POST", "/events", b'{"user": "u", "item": "' + b"i" * 3_000 + b'"}'),
    ("POST", "/events?session=s", b'{"user": "u", "item": "i1"}'),
    ("POST", "/sessions/s/events?k=1", b'{"item": "i1"}'),
    ("POST", "/sessions//events", b'{"item": "i1"}'),
    ("POST", "/sessions/s/events", b'{"item": "i1", "user": "u"}'),
    ("GET", "/users//recommendations", None),
    ("GET", "/users/u/recommendations?k=0", None),
    ("GET", "/users/u/recommendations?k=51", None),
    ("GET", "/users/u/recommendations?k=1_0", None),
    ("GET", "/users/u/recommendations?k=5&k=5", None),
    ("GET", "/users/u/recommendations?kk=5", None),
    ("GET", "/users/u/recommendations?exclude=", None),
    ("GET", "/users/a%0Ab/recommendations", None),
    ("HEAD", "/users/u/recommendations", None),
    ("DELETE", "/users/u", None),
    ("GET", "/users", None),
]


@pytest.fixture(scope="module")
def network(trained_run):
    return load_run(trained_run)


@pytest.fixture
def make_app(network):
    """Make an application with a recommender of its own; closed after the test."""
    made = []

    def make():
        recommender = Recommender(*network, state_store.IN_MEMORY)
        batcher = Batcher(recommender, ServiceMetrics())
        made.append((batcher, recommender))
        return build(batcher, batcher._metrics, SETTINGS)

    yield make
    for batcher, recommender in made:
        batcher.close()
        recommender.close()


def answers(app, requests, **more):
    """Send requests one after the other; returns status, kind and content of each answer."""

    async def ask():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            found = []
            for method, path, body in requests:
                headers = {"Content-Type": "application/json"} if body is not None else {}
                headers |= more
                response = await client.request(method, path, content=body, headers=headers)
                kind = response.headers.get("content-type")
                found.append((response.status_code, kind, response.text))
            metrics = (await client.get("/metrics")).text
            counts = re.findall(_COUNTS, metrics, re.MULTILINE)
            return found, counts

    return asyncio.run(ask())


class NoRouteError(Exception):
    """A request came to the routes."""


async def no_routes(scope, receive, send):
    raise NoRouteError


def test_every_answer_is_that_of_the_route(make_app, monkeypatch):
    """Bug: take a request that its route refuses, as `/events?k=5`; name another in metrics."""
    requests = [*PLAIN, *OTHERS, *PLAIN]
    hot = answers(make_app(), requests)

    async def pass_on(self, scope, receive, send):
        await self._app(scope, receive, send)

    monkeypatch.setattr(hot_routes.HotRoutes, "__call__", pass_on)
    assert hot == answers(make_app(), requests)


def test_plain_requests_do_not_come_to_the_routes_and_others_do(make_app, monkeypatch):
    """Bug: a path that no request takes any more costs nothing but time."""
    app = make_app()
    [middleware] = [m for m in app.user_middleware if m.cls is hot_routes.HotRoutes]
    hot = hot_routes.HotRoutes(no_routes, **middleware.kwargs)

    async def status(method, path, body):
        headers = {"Content-Type": "application/json"} if body is not None else {}
        transport = httpx.ASGITransport(hot)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return (await client.request(method, path, content=body, headers=headers)).status_code

    for request in PLAIN:
        assert asyncio.run(status(*request)) == 200, request
    for request in OTHERS:
        if b'"time": 1e99' in (request[2] or b"") or b'"item": ""' in (request[2] or b""):
            assert asyncio.run(status(*request)) == 422, request
        else:
            with pytest.raises(NoRouteError):
                asyncio.run(status(*request))


@pytest.mark.parametrize("kind", ["text/plain", "application/json; charset=utf-8", ""])
def test_a_body_of_another_kind_is_left_to_the_route(make_app, monkeypatch, kind):
    request = [("POST", "/events", b'{"user": "u", "item": "i1", "time": 1600000000}')]
    hot = answers(make_app(), request, **{"Content-Type": kind})

    async def pass_on(self, scope, receive, send):
        await self._app(scope, receive, send)

    monkeypatch.setattr(hot_routes.HotRoutes, "__call__", pass_on)
    assert hot == answers(make_app(), request, **{"Content-Type": kind})


def test_the_events_of_a_client_that_left_are_not_taken(make_app):
    """Bug: take the beginning of a body for the whole of it."""
    app = make_app()
    body = b'{"user": "u", "item": "i1"}'
    messages = [
        {"type": "http.request", "body": body, "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent = []

    async def receive():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/events",
        "raw_path": b"/events",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"application/json"), (b"content-length", b"90")],
    }

    asyncio.run(app(scope, receive, send))
    assert not any(message.get("status") == 200 for message in sent)
    assert answers(app, [("GET", "/users", None)])[0][0][2] == '{"users":[]}'
