"""Each client sends its next request once it has the whole answer to the last one."""

import contextlib
import socket
import threading

import pytest

from experiments.bench.service import throughput
from experiments.bench.service.steady_load import Request
from hrnn_jax import errors

REQUEST = Request("/x")
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n[[]]"


@pytest.fixture
def serve():
    """Start a service that answers each request by some pieces, or leaves where one is empty.

    Returns its address and log.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    log = []

    def answer(connection, pieces):
        with connection, contextlib.suppress(OSError):  # the client leaves at the end
            while request := connection.recv(65536):
                log.append(request)
                if not all(pieces):
                    return
                for piece in pieces:
                    connection.sendall(piece)

    def start(*pieces):
        def accept():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection, pieces), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}", log

    yield start
    with contextlib.suppress(OSError):  # wakes the thread that accepts
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def load(url, request=REQUEST, seconds=0.1):
    return throughput.send_in_turn(url, lambda rng: request, clients=3, seconds=seconds)


@pytest.mark.parametrize("pieces", [(ANSWER,), (ANSWER[:20], ANSWER[20:-2], ANSWER[-2:])])
def test_a_request_is_counted_once_its_answer_is_whole(serve, pieces):
    """Bug: send the next one after the first piece, and answers are out of step."""
    url, log = serve(*pieces)
    sent = load(url)
    assert len(sent.waits) == len(log) > 3
    assert min(sent.waits) > 0
    assert 0 < sent.per_second <= len(log) / 0.1


def test_bodies_are_sent_whole(serve):
    url, log = serve(ANSWER)
    load(url, Request("/events", {"user": 1}))
    assert set(log) == {
        b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b'Content-Length: 11\r\n\r\n{"user": 1}'
    }


@pytest.mark.parametrize(
    ("answer", "said"), [(b"HTTP/1.1 503 Busy\r\n\r\n", "/x: b'HTTP/1.1 503"), (b"", "closed")]
)
def test_a_failure_ends_the_load(serve, answer, said):
    """Bug: count refused requests as answered."""
    url, _ = serve(answer)
    with pytest.raises(errors.InputError, match=said):
        load(url, seconds=60)
