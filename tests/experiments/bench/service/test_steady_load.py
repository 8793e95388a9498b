"""The load generator keeps its rate, and a wait begins when its request was due."""

import http.server
import threading
import time

import pytest

from experiments.bench.service.steady_load import Request, send_at_random
from hrnn_jax import errors


@pytest.fixture
def service():
    """Start a service that waits for the seconds in its path; return its address and its paths."""
    paths = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            paths.append(self.path)
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
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    server.server_close()


def test_requests_have_the_mean_rate(service):
    """Bug: give each connection the rate of all."""
    url, paths = service
    waits = send_at_random(url, lambda rng: Request("/0"), per_second=2_000, seconds=0.2)
    assert len(waits) == len(paths)
    assert 300 < len(waits) < 500  # 400 in the mean, by five standard deviations of 20
    assert min(waits) > 0


def test_a_wait_begins_when_the_request_was_due(service):
    """Bug: measure from the moment when the request is sent."""
    url, _ = service
    waits = send_at_random(url, lambda rng: Request("/0.02"), per_second=1_600, seconds=0.2)
    assert max(waits) > 0.1  # 100 a second of a connection that answers at most 50


def test_an_error_status_ends_the_load(service):
    url, _ = service
    with pytest.raises(errors.InputError, match="/fail: 500"):
        send_at_random(url, lambda rng: Request("/fail"), per_second=100, seconds=1)
