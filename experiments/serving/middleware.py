"""Before and after all routes: the bearer token, the size of bodies, headers, the meters."""

from __future__ import annotations

import hmac
import time
from collections.abc import Collection

import fastapi
from fastapi import responses
from starlette import datastructures, types

from . import prometheus

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
}


class Gate:
    """ASGI middleware.

    token: what everything asks for but open_paths; None asks for nothing. max_body_bytes: of what
    a client sends, whether or not it tells the size beforehand.
    """

    def __init__(
        self,
        app: types.ASGIApp,
        *,
        measured: prometheus.Meters,
        token: bytes | None,
        open_paths: Collection[str],
        max_body_bytes: int,
    ):
        self._app = app
        self._measured = measured
        self._token = token
        self._open_paths = frozenset(open_paths)
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: types.Scope, receive: types.Receive, send: types.Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, received = time.perf_counter(), 500, 0

        async def limited() -> types.Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body_bytes:
                raise fastapi.HTTPException(
                    413, f"the body is larger than {self._max_body_bytes:,} bytes: send it in parts"
                )
            return message

        async def noted(message: types.Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = datastructures.MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            if self._may_pass(scope):
                await self._app(scope, limited, noted)
            else:
                refusal = responses.JSONResponse(
                    {"detail": "give the service's token, as in Authorization: Bearer TOKEN"},
                    status_code=401,
                    headers={"WWW-Authenticate": "Bearer"},
                )
                await refusal(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", "none")  # never what a client made up
            self._measured.requests.labels(route, scope["method"], status).observe(
                time.perf_counter() - started
            )

    def _may_pass(self, scope: types.Scope) -> bool:
        if self._token is None or scope["path"] in self._open_paths:
            return True
        given = datastructures.Headers(scope=scope).get("authorization", "")
        kind, _, token = given.partition(" ")
        # In constant time, so that a guess cannot be told to be near.
        return hmac.compare_digest(token.encode("latin-1"), self._token) and (
            kind.lower() == "bearer"
        )
