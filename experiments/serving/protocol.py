"""Connections that bound what a client may send, and how slowly, before a request is looked at.

uvicorn's parser keeps a header of any length, and waits for the rest of a request for ever. Here a
header has at most 64 KiB. A client whose turn it is has 10 seconds to send the request or to read
the answer, and 10 more for every 64 KiB. Beyond some hundred connections new ones are answered with
503, so that those that exist go on.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

MAX_HEADER_BYTES = 65_536  # the request line included
MAX_CONNECTIONS = 900  # systems often let a process open 1,024 files
MAX_PIPELINED = 64  # requests that wait for the answers to earlier ones of their connection
STALL_SECONDS = 10.0  # in which a client must send or read at least so much:
STALL_BYTES = 65_536
END_SECONDS = 3.0  # after which clients are not waited for once the service has to stop
_REFUSED_SECONDS = 1.0  # in which a refused client may read why, while what it sends is dropped,
_REFUSED_BYTES = 2**20  # but no more of it than this
_MAX_REFUSED = 50  # at a time; more are closed without a word
_PIECE = 16_384  # bytes that are parsed at a time


class _RefusedError(Exception):
    """Ends the parsing of what a refused client sent."""


class BoundedProtocol(HttpToolsProtocol):
    """A connection of uvicorn with bounds; uvicorn makes one for each."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ):
        """Take what uvicorn's protocols take."""
        super().__init__(config, server_state, app_state, _loop)
        self._in_request = False  # one has begun, and its end has not come
        self._in_header = False  # of that request
        self._is_refused = False
        self._cycles: list[RequestResponseCycle] = []  # uvicorn's, of requests without an answer
        self._header_bytes = 0  # of the present request, or since the last byte of its body
        self._since = self.loop.time()  # when the present STALL_SECONDS began
        self._received = 0  # bytes in them
        self._unread = 0  # bytes of answers that the client had not taken when they began

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse a connection that is one too many."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self._refuse(503, f"{MAX_CONNECTIONS} clients are connected: try again later")
        if len(self.connections) > MAX_CONNECTIONS + _MAX_REFUSED:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the application know for all requests; uvicorn does for the newest alone."""
        self._disconnect()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what the client sent, piece by piece, so that no header can grow large."""
        for begin in range(0, len(data), _PIECE):
            piece = data[begin : begin + _PIECE]
            if not self._is_refused and not self.transport.is_closing():
                self._header_bytes += len(piece)
                super().data_received(piece)
            self._received += len(piece)
            if self._in_request and self._header_bytes > MAX_HEADER_BYTES:
                self._refuse_header()
        if self._is_refused and self._received > _REFUSED_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._in_request, self._in_header, self._header_bytes = True, True, 0
        self._since, self._received = self.loop.time(), 0

    def on_headers_complete(self) -> None:
        """Begin to answer a request."""
        if self._header_bytes:  # it did not come in one piece
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > MAX_HEADER_BYTES:
                self._refuse_header()
                raise _RefusedError
        if len(self.pipeline) >= MAX_PIPELINED:
            self._refuse(400, f"{MAX_PIPELINED} requests wait for their answers: read them first")
            raise _RefusedError
        self._in_header = False
        super().on_headers_complete()
        self._cycles = [cycle for cycle in self._cycles if not cycle.response_complete]
        self._cycles.append(self.cycle)

    def on_body(self, body: bytes) -> None:
        """Take a part of a body; what follows it may be a header again, of a chunked body."""
        self._header_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._in_request = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP request; uvicorn calls this for a refused one too."""
        said = "send HTTP/1.1, with the path and query percent-encoded"
        self._refuse(400, f"{msg.rstrip('.')}: {said}")

    def close_if_stalled(self) -> None:
        """Close the connection if its client has sent or read too little for too long."""
        now = self.loop.time()
        unread = self.transport.get_write_buffer_size()
        if self._is_refused:
            return  # it is closed soon
        if not self._waits_for_client():
            self._since, self._received, self._unread = now, 0, unread
        elif now - self._since >= STALL_SECONDS:
            has_begun = self._in_request and not self._in_header and self.cycle.response_started
            received = 0 if has_begun else self._received  # the rest of a body changes nothing
            if received + self._unread - unread >= STALL_BYTES:
                self._since, self._received, self._unread = now, 0, unread
            elif self._in_request and not has_begun:
                self._refuse(408, "the request did not come to its end: send it again")
            else:
                self.transport.abort()

    def shutdown(self) -> None:
        """End the connection after the answers that are due, but wait for no client for long."""
        super().shutdown()
        self.loop.call_later(END_SECONDS, self._abort_if_waiting)

    def _waits_for_client(self) -> bool:
        """Tell whether it is for the client to send or to read, between two requests apart."""
        if self._in_request or self.flow.write_paused or self.transport.is_closing():
            return True
        is_idle = not self.cycle or self.cycle.response_complete  # it is None before the first
        return is_idle and self.timeout_keep_alive_task is None

    def _abort_if_waiting(self) -> None:
        if self in self.connections and self._waits_for_client():
            self.transport.abort()

    def _disconnect(self) -> None:
        """Let the application learn that its client has left: it writes no more answers."""
        for cycle in self._cycles:
            cycle.disconnected = True
            cycle.message_event.set()

    def _refuse_header(self) -> None:
        self._refuse(431, f"the header is larger than {MAX_HEADER_BYTES:,} bytes: send less")

    def _refuse(self, status: int, reason: str) -> None:
        """Answer without the application, and end the connection."""
        content = json.dumps({"detail": reason}).encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(content)}\r\n"
            "retry-after: 1\r\nconnection: close\r\n\r\n"
        )
        if self._is_refused:
            return
        self._is_refused = True
        self.pipeline.clear()
        self._disconnect()
        if self.transport.is_closing():
            return
        self.transport.write(head.encode() + content)
        self.transport.write_eof()  # closed at once, the client might lose what it has not read
        self.loop.call_later(_REFUSED_SECONDS, self.transport.abort)
