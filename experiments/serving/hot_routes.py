"""The requests that come by the thousand, answered without the layers of the web framework.

FastAPI takes five times as long for a small request as the rest of the event loop does. So a plain,
valid request for a list or with events is answered here, by the same models and functions as its
route. Every other request goes on to the routes, which say what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import pydantic
import pydantic_core
from fastapi.exceptions import HTTPException
from fastapi.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hrnn_jax.errors import InputError, StorageError
from hrnn_jax.ids_and_times import id_text

from . import schemas
from .batcher import BusyError
from .routes import LISTS, Service, entries, observe, read_json, recommend

_LISTS = re.compile(r"/(user|session)s/([\s\S]*)/recommendations")
_EVENTS = re.compile(r"/(?:events|sessions/([\s\S]*)/events)")
_LARGEST = 65_536  # bytes of a body that is read here
_JSON = b"application/json"


class _Route(NamedTuple):
    path: str  # as the metrics name it


class HotRoutes:
    """ASGI middleware around the routes."""

    def __init__(
        self, app: ASGIApp, *, service: Service, on_error: Callable[[Exception], Response]
    ):
        """Wrap an application.

        Args:
            app: answers all other requests.
            service: what the routes have.
            on_error: makes the response to an InputError, StorageError or BusyError.
        """
        self._app = app
        self._service = service
        self._on_error = on_error
        self._query = schemas.recommendation_query(service.max_k)
        self._of_users = pydantic.TypeAdapter(schemas.AnyEvents)
        self._of_sessions = pydantic.TypeAdapter(schemas.AnySessionEvents)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; ASGI calls this."""
        method = scope["method"] if scope["type"] == "http" else None
        content: bytes | None = None
        try:
            if method == "GET" and (found := _LISTS.fullmatch(scope["path"])):
                content = await self._list(scope, *found.groups())
            elif method == "POST" and (found := _EVENTS.fullmatch(scope["path"])):
                receive = _Kept(receive)
                content = await self._outcomes(scope, receive, *found.groups())
        except (InputError, StorageError, BusyError) as error:
            await self._on_error(error)(scope, receive, send)
            return
        if content is None:
            await self._app(scope, receive, send)
            return
        headers = [(b"content-type", _JSON), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _list(self, scope: Scope, kind: str, text: str) -> bytes | None:
        """Return the content of the answer to a valid request for a list."""
        given: dict[str, Any] = {}
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        for name, value in pairs:
            if name in LISTS:
                given.setdefault(name, []).append(value)
            elif name in given:
                return None
            else:
                given[name] = value
        try:
            id_ = id_text("id", text)
            query = self._query.model_validate(given)
        except (InputError, pydantic.ValidationError):
            return None
        scope["route"] = _Route(f"/{kind}s/{{id:any}}/recommendations")
        ranked = await recommend(self._service, kind, id_, query)
        return _json(recommendations=entries(ranked, self._service.catalogue))

    async def _outcomes(self, scope: Scope, receive: _Kept, session: str | None) -> bytes | None:
        """Return the content of the answer to a valid request with events."""
        headers = dict(scope["headers"])
        size = headers.get(b"content-length", b"")
        if scope["query_string"] or headers.get(b"content-type") != _JSON or not size.isdigit():
            return None
        if int(size) > min(_LARGEST, self._service.max_body_bytes):
            return None
        body = await receive.body()
        if body is None:
            return None
        model = self._of_users if session is None else self._of_sessions
        try:
            id_ = None if session is None else id_text("id", session)
            events = model.validate_python(read_json(body))
        except (HTTPException, InputError, ValueError, RecursionError):
            return None
        scope["route"] = _Route("/events" if session is None else "/sessions/{id:any}/events")
        return _json(outcomes=await observe(self._service, events, id_))


class _Kept:
    """The messages of a request's body, which can be received again after they were read."""

    def __init__(self, receive: Receive):
        self._receive = receive
        self._messages: list[Message] = []

    async def __call__(self) -> Message:
        return self._messages.pop(0) if self._messages else await self._receive()

    async def body(self) -> bytes | None:
        """Return the body, None where the client leaves before its end."""
        while not self._messages or self._messages[-1].get("more_body", False):
            self._messages.append(await self._receive())
            if self._messages[-1]["type"] != "http.request":
                return None
        return b"".join(message.get("body", b"") for message in self._messages)


def _json(**content: Any) -> bytes:
    return pydantic_core.to_json(content, inf_nan_mode="null")
