"""The server around the application."""

import signal
import socket
import time

import pytest
import uvicorn

from experiments.serving import service


async def answer(scope, receive, send):
    """An application that is never asked."""


def test_a_signal_that_follows_the_ready_line_ends_the_server(monkeypatch):
    def end(*_):
        raise SystemExit(0)

    said = []

    def say(line, **_):
        said.append(line)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(service, "print", say, raising=False)
    config = uvicorn.Config(answer, log_level="warning", lifespan="off")
    server = service.Server(config, "http://here", time.time())
    before = signal.signal(signal.SIGTERM, end)
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(SystemExit):
            server.run([listener])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [line.split()[-1] for line in said] == ["http://here/docs"]
