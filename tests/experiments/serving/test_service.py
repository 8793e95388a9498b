"""The server around the application."""

import asyncio
import json
import signal
import socket
import time
import types

import pytest
import uvicorn

from experiments.serving import service
from experiments.serving.app import Settings
from experiments.serving.operation.prometheus import ServiceMetrics


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


class Reloaded:
    """A recommender that notes that it was reloaded."""

    n_reloads = 0

    def check_reload(self):
        """Allow it."""

    def reload(self, run, **_):
        self.n_reloads += 1


@pytest.mark.parametrize("metrics", ['{"name": "next"', '{"name": "next"}'])
def test_a_run_whose_metrics_are_damaged_fails_its_reload_and_serves_nothing(
    tmp_path, monkeypatch, caplog, metrics
):
    """Bug: read them after the swap, and wait for ever for its end."""
    data = {"source": {"path": "log.csv"}, "data": "events", "columns": {"session": None}}
    (tmp_path / "data.json").write_text(json.dumps(data))
    (tmp_path / "metrics.json").write_text(metrics)
    flags = {"reload_runs": None, "states": "states.sqlite", "seed": None}
    flags |= {"max_body_kib": 1, "max_k": 1, "keep_sessions_hours": 1.0}
    monkeypatch.setattr(service, "FLAGS", types.SimpleNamespace(**flags))
    settings = Settings("before", "a log", simulated=False, given_sessions=False)
    live = Reloaded()
    served = service._served(live, tmp_path, ServiceMetrics(), settings)

    async def reload():
        served.reloader.start(None)
        await served.reloader.close()

    asyncio.run(reload())
    assert served.reloader.health.status == "failed"
    assert served.settings == settings
    assert live.n_reloads == 0
    [line] = caplog.messages
    assert "has failed, and the run of before serves on: " in line
