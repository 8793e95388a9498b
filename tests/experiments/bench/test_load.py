"""The load generator asks at the rate asked for, and a late answer counts from when it was due."""

import http.server
import threading
import time

import pytest

from experiments.bench import load
from hrnn_jax import errors


@pytest.fixture
def service():
    """Start a service that waits as long as its path says; returns its address and what it saw."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            seen.append(self.path)
            status = 500 if self.path == "/fail" else 200
            if status == 200:
                time.sleep(float(self.path[1:]))
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()


def test_it_asks_at_the_rate(service):
    url, seen = service
    taken = load.run(url, lambda rng: load.Question("GET", "/0"), per_second=200, seconds=2)
    assert len(taken) == len(seen)
    assert 300 < len(taken) < 500  # 400 in the mean, by five standard deviations of 20
    assert min(taken) > 0


def test_what_waits_behind_a_late_answer_counts_from_when_it_was_due(service):
    url, _ = service
    taken = load.run(url, lambda rng: load.Question("GET", "/0.1"), per_second=320, seconds=1)
    assert max(taken) > 0.5  # 20 a second of a connection that answers 10


def test_an_answer_that_is_none_of_success_ends_it(service):
    url, _ = service
    with pytest.raises(errors.InputError, match="/fail: 500"):
        load.run(url, lambda rng: load.Question("GET", "/fail"), per_second=100, seconds=1)
