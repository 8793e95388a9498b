"""Connections of hostile, slow and unlucky clients, by raw sockets against a server in the loop."""

import asyncio
import contextlib
import json
import logging
import socket
import time

import pytest
import uvicorn

from experiments.serving import protocol
from experiments.serving.app import Settings, build
from experiments.serving.batcher import Batcher
from experiments.serving.operation.prometheus import ServiceMetrics
from experiments.serving.service import Server
from tests.helpers import live_users

SETTINGS = Settings(model="HRNN Init", data="a log", simulated=False, given_sessions=False)
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
POST = (
    b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 100\r\n\r\n"
)
CHUNKED = (
    b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
)
SECONDS = 30  # a time limit far above what an answer takes


@pytest.fixture(scope="module")
def app():
    """Make an application for all tests of this file."""
    metrics = ServiceMetrics()
    with live_users.recommender() as recommender:
        batcher = Batcher(recommender, metrics)
        yield build(batcher, metrics, SETTINGS)
        batcher.close()


def served(app, ask):
    """Serve an application while a coroutine asks; returns its result."""
    config = uvicorn.Config(
        app,
        http=protocol.BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,  # so that caplog gets what is logged
        log_level="error",
    )
    server = Server(config, "http://here", time.time())

    async def serve_and_ask():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = listener.getsockname()
            serving = asyncio.create_task(server.serve([listener]))
            try:
                while not server.started:
                    await asyncio.sleep(0)
                return await asyncio.wait_for(ask(server, address), SECONDS)
            finally:
                server.should_exit = True
                await asyncio.wait_for(serving, SECONDS)

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        return runner.run(serve_and_ask())


@contextlib.asynccontextmanager
async def connected(address):
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def settle():
    """Let the server take what was sent, which the loop finds at once: it is on this machine."""
    for _ in range(100):
        await asyncio.sleep(0)


async def send(address, *parts):
    """Send bytes over a new connection, part by part; returns what comes until it is closed."""
    async with connected(address) as (reader, writer):
        with contextlib.suppress(ConnectionError):
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
        return await reader.read()


def status_of(answer):
    return int(answer.split()[1])


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([GET + b"x: ", *[b"x" * 10_000] * 9], 431),  # its end never comes
        ([GET, *[b"x: 1\r\n" * 2_000] * 9], 431),
        ([b"GET /", *[b"x" * 10_000] * 9], 431),
        ([CHUNKED, b"x: ", *[b"x" * 10_000] * 9], 431),  # its trailer
        ([GET + b"Connection: close\r\nx: " + b"x" * 70_000 + b"\r\n\r\n"], 431),
        ([GET + b"Connection: close\r\nx: " + b"x" * 60_000 + b"\r\n\r\n"], 200),
        ([GET + b"Connection: close\r\nx: ", b"x" * 30_000, b"x" * 30_000, b"\r\n\r\n"], 200),
        ([b"\x16\x03\x01 no HTTP\r\n\r\n"], 400),
    ],
)
def test_a_header_is_bounded_whether_it_ends_or_not(app, parts, status):
    """Bug: keep what came of an endless one, 80 MB that block the service for 16 s."""

    async def ask(server, address):
        return await send(address, *parts)

    answer = served(app, ask)
    assert status_of(answer) == status
    if status != 200:
        assert list(json.loads(answer.partition(b"\r\n\r\n")[2])) == ["detail"]


@pytest.mark.parametrize("path", ["/users/é/history", "/users?prefix=é"])
def test_a_path_that_is_not_percent_encoded_is_refused_with_that_reason(app, path):
    """Bug: ask a client that sends HTTP/1.1 to send it."""

    async def ask(server, address):
        return await send(address, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    answer = served(app, ask)
    assert status_of(answer) == 400
    assert b"with the path and query percent-encoded" in answer


def let_time_pass(server):
    """Close the connections of clients that did too little since they began, or since the last."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "STALL_SECONDS", 0)
        server.close_stalled()


async def stalls(server, address, *parts):
    """Send parts of a request, and let its time be over; returns what comes."""
    async with connected(address) as (reader, writer):
        for part in parts:
            writer.write(part)
        await settle()
        let_time_pass(server)
        return await reader.read()


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([], None),  # closed without a word
        ([b"GET / HTT"], 408),
        ([GET, b"x: 1"], 408),
        ([POST], 408),
        ([POST + b"1", b"2"], 408),
    ],
)
def test_a_request_that_does_not_come_to_its_end_is_given_up(app, parts, status):
    async def ask(server, address):
        return await stalls(server, address, *parts)

    answer = served(app, ask)
    assert (status_of(answer) if answer else None) == status


def test_clients_that_wait_or_go_on_are_not_given_up():
    """Bug: count the time of the service, or between requests, or a large body that goes on."""
    goes_on, bodies = asyncio.Event(), []

    async def answer(scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        bodies.append(len(body))
        await goes_on.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def ask(server, address):
        async with connected(address) as (reader, writer):
            head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n"
            for part in (head + 70_000 * b"a", 70_000 * b"b", 60_000 * b"c"):
                writer.write(part)
                await settle()
                let_time_pass(server)
            while not bodies:
                await asyncio.sleep(0)
            let_time_pass(server)
            goes_on.set()
            assert status_of(await reader.readuntil(b"\r\n\r\n")) == 204
            let_time_pass(server)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert status_of(await reader.readuntil(b"\r\n\r\n")) == 204

    served(answer, ask)
    assert bodies == [200_000, 0]


def test_connections_are_bounded_and_those_that_exist_go_on(app, monkeypatch):
    """Bug: refuse the requests of all clients where one holds many connections."""
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 2)

    async def ask(server, address):
        async with connected(address) as (reader, writer), connected(address):
            writer.write(GET + b"\r\n")
            assert status_of(await reader.readuntil(b"}")) == 200
            await reader.readuntil(b"}")  # that of the answer, after that of its part
            third = await send(address, GET + b"\r\n")
            writer.write(GET + b"\r\n")
            assert status_of(await reader.readuntil(b"}")) == 200
            return third

    assert status_of(served(app, ask)) == 503


def test_requests_that_do_not_wait_for_answers_are_bounded(app, monkeypatch):
    monkeypatch.setattr(protocol, "MAX_PIPELINED", 3)

    async def ask(server, address):
        return await send(address, 100 * (GET + b"\r\n"))

    assert b"400 Bad Request" in served(app, ask)


@pytest.mark.parametrize("is_refused", [True, False])
def test_a_connection_that_ends_before_its_answers_leaves_no_traceback(is_refused, caplog):
    """Bug: let the first of several requests write its answer to a closed connection."""
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def answer(scope, receive, send):
        begun.set()
        await goes_on.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def ask(server, address):
        async with connected(address) as (reader, writer):
            writer.write(2 * (GET + b"\r\n") + (b"\x00x\r\n\r\n" if is_refused else b""))
            await begun.wait()
            if is_refused:
                assert status_of(await reader.readuntil(b"}")) == 400
            else:  # as that of a client that does not read
                for connection in list(server.server_state.connections):
                    connection.transport.abort()
                assert await reader.read() == b""
            goes_on.set()
            while server.server_state.tasks:
                await asyncio.sleep(0)

    served(answer, ask)
    assert caplog.records == []


def test_stalled_bodies_hold_up_no_end_and_leave_no_traceback(app, monkeypatch, caplog):
    """Bug: wait 30 s for them, and cancel 300 requests with a traceback each."""
    monkeypatch.setattr(protocol, "END_SECONDS", 0)

    with contextlib.ExitStack() as clients:

        async def ask(server, address):
            for _ in range(20):
                client = clients.enter_context(socket.create_connection(address))
                client.sendall(POST + b"{")
            while len(server.server_state.tasks) < 20:
                await asyncio.sleep(0)

        with caplog.at_level(logging.WARNING):
            served(app, ask)
    assert caplog.records == []
