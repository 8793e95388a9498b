"""The service as a process: start, end, and the events that it stores whatever happens to it."""

import asyncio
import contextlib
import dataclasses
import datetime
import io
import itertools
import json
import multiprocessing
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent import futures

import httpx
import pytest
import uvicorn

from experiments.serving import import_history
from hrnn_jax.checkpoint import load_run
from hrnn_jax.config import DataConfig
from hrnn_jax.live import state_store
from hrnn_jax.live.events import Event
from hrnn_jax.live.recommender import Recommender
from tests.helpers import runs

ROOT = pathlib.Path(__file__).parents[2]
ITEMS = [f"i{n}" for n in range(20)]


SECONDS = 300  # a time limit far above what a start takes


@pytest.fixture(scope="module")
def network(trained_run):
    return load_run(trained_run)


class Service:
    """A process of experiments.serve."""

    def __init__(self, run, states, output, *argv):
        self.output = output
        command = [
            sys.executable,
            "-m",
            "experiments.serve",
            f"--run={run}",
            f"--states={states}",
            "--port=0",
            f"--compilation_cache={run.parent / 'compiled'}",
            *argv,
        ]
        before = time.time()
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=output.parent,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        self.begun = before, time.time()  # the process began between these

    def wait_ready(self):
        while not (ready := re.search(r"ready in (\S+) s at (\S+),", self.said)):
            assert self.process.poll() is None, self.said
            assert time.time() < self.begun[1] + SECONDS, self.said
            time.sleep(0.05)
        self.ready_seconds, self.url = float(ready[1]), ready[2]
        self.ready_time = self.output.stat().st_mtime
        self.address = "127.0.0.1", int(self.url.rpartition(":")[2])
        return self

    @property
    def said(self):
        return self.output.read_text()

    def ask(self, method, path, **more):
        return httpx.request(method, self.url + path, timeout=SECONDS, **more)

    def end(self, number=signal.SIGTERM):
        """Send a signal; returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


@pytest.fixture
def start(trained_run, tmp_path):
    """Start services one after the other on one state file; none outlives the test."""
    started = []

    def start_service(*argv, ready=True):
        output = tmp_path / f"{len(started)}.out"
        service = Service(trained_run, tmp_path / "states.sqlite", output, *argv)
        started.append(service)
        return service.wait_ready() if ready else service

    yield start_service
    for service in started:
        service.process.kill()
        service.process.wait()


def event(user, n):
    """Return the nth event of a user, as it is sent."""
    at = (n * 7 + sum(map(ord, user))) % 20
    return {"user": user, "item": ITEMS[at], "time": 1_700_000_000 + 600 * n}


def send_until_it_dies(service, user, acknowledged):
    """Send a user's events one by one, and count those that are acknowledged."""
    with httpx.Client(base_url=service.url, timeout=SECONDS) as client:
        for n in itertools.count():
            try:
                response = client.post("/events", json=event(user, n))
            except httpx.TransportError:
                return
            assert response.json() == {"outcomes": ["observed"]}, response.text
            acknowledged[user] = n + 1


def assert_stored(service, network, counts):
    """Check that exactly the first events of each user, so many, are stored and recommended by."""
    users = service.ask("GET", "/users", params={"limit": 1000}).json()["users"]
    assert {entry["user"]: entry["events"] for entry in users} == counts
    with Recommender(*network, state_store.IN_MEMORY) as plain:
        for user, n in counts.items():
            sent = [event(user, i) for i in range(n)]
            plain.observe_many([Event(e["item"], user, e["time"]) for e in sent])
            answer = service.ask("GET", f"/users/{user}/recommendations").json()
            scores = {entry["item"]: entry["score"] for entry in answer["recommendations"]}
            assert scores == pytest.approx(dict(plain.recommend(user)), abs=1e-5)


def test_the_first_start_imports_the_history_and_the_next_continues(
    start, trained_run, network, tmp_path
):
    first = start()
    assert "imported the history of 30 users" in first.said
    assert "filters kept: --history=LOG with another --states imports all" in first.said
    recall = json.loads((trained_run / "metrics.json").read_text())["mean"]["recall@5"]
    named = (
        f"serving HRNN Init --hidden_units=8 --dropout_session=0 --batch_size=10 of {trained_run}"
    )
    assert f"\n{named}, recall@5 {recall:.4f}\nready in" in first.said
    earliest, latest = (first.ready_time - begun for begun in first.begun[::-1])
    assert earliest - 1.1 < first.ready_seconds < latest + 1.1  # systems give starts in seconds
    health = first.ask("GET", "/health").json()
    assert (health["model"], health["states"], health["items"]) == ("HRNN Init", 30, 20)
    assert not health["simulated"]
    assert health["data"] == str(trained_run.parent / "log.csv")
    [prepared_folder] = (trained_run.parent / "prepared").glob("events-*")
    about = json.loads((trained_run / "data.json").read_text())
    by_log = import_history.read(trained_run.parent / "log.csv", about)
    with Recommender(*network, state_store.IN_MEMORY) as plain:
        plain.bootstrap(import_history.read(prepared_folder, about))
        expected = plain.recommend("u3")
    with Recommender(*network, state_store.IN_MEMORY) as plain:
        plain.bootstrap(by_log)  # nothing of this log was filtered out
        assert plain.recommend("u3") == expected
    answer = first.ask("GET", "/users/u3/recommendations").json()["recommendations"]
    assert [entry["item"] for entry in answer] == [item for item, _ in expected]
    assert first.ask("POST", "/events", json=event("u3", 0)).json() == {"outcomes": ["observed"]}

    other = start("--history=", ready=False)  # while the first has the states open
    assert other.process.wait(SECONDS) == 2
    assert re.fullmatch(r"error: .*states.sqlite is in use by another process: .*\n", other.said)

    assert first.end() == 0
    assert "rror" not in first.said
    assert {path.name for path in tmp_path.iterdir()} == {"0.out", "1.out", "states.sqlite"}
    second = start()
    assert "history" not in second.said
    users = second.ask("GET", "/users", params={"prefix": "u3"}).json()["users"]
    assert users == [{"user": "u3", "events": 25}]
    assert second.end(signal.SIGINT) == 0
    assert second.said.endswith("\nstopped\n")


def test_acknowledged_events_survive_kill_9(start, network):
    service = start("--history=")
    acknowledged = {}
    senders = [
        threading.Thread(target=send_until_it_dies, args=(service, f"v{n}", acknowledged))
        for n in range(8)
    ]
    for sender in senders:
        sender.start()
    while sum(acknowledged.values()) < 300:
        assert any(sender.is_alive() for sender in senders)
        time.sleep(0.01)
    service.end(signal.SIGKILL)
    for sender in senders:
        sender.join()
    again = start("--history=")
    users = again.ask("GET", "/users").json()["users"]
    counts = {entry["user"]: entry["events"] for entry in users}
    for user, n in acknowledged.items():
        assert n <= counts[user] <= n + 1  # the last one may be stored without an answer
    assert_stored(again, network, counts)


def connects(address):
    """Tell whether a service listens there."""
    try:
        socket.create_connection(address, timeout=SECONDS).close()
    except ConnectionRefusedError:
        return False
    return True


def test_requests_in_flight_are_answered_before_the_end(start, network):
    service = start("--history=")
    body = json.dumps({"events": [event("w", n) for n in range(300)]}).encode()
    head = (
        "POST /events HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
        f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(service.address, timeout=SECONDS) as connection:
        connection.sendall(head.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")  # the request is in flight
        connection.sendall(body[:-1])
        service.process.send_signal(signal.SIGTERM)
        while connects(service.address):
            time.sleep(0.01)
        connection.sendall(body[-1:])
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b"observed") == 300
    assert service.process.wait(SECONDS) == 0
    assert "anyone" not in service.said
    again = start("--history=", "--host=0.0.0.0")
    assert "anyone who reaches this machine may read and write" in again.said
    assert_stored(again, network, {"w": 300})


def test_a_full_disk_loses_no_acknowledged_event(start, network, tmp_path):
    service = start("--history=")
    acknowledged = 0

    def send():
        return service.ask("POST", "/events", json=event("full", acknowledged))

    while acknowledged < 5:
        assert send().status_code == 200
        acknowledged += 1
    size = (tmp_path / "states.sqlite-wal").stat().st_size
    limits = resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (size + 40_000, limits[1]))
    while (response := send()).status_code == 200:
        acknowledged += 1
        assert acknowledged < 1000
    for _ in range(3):
        assert response.status_code == 503
        assert "make room" in response.json()["detail"]
        assert service.ask("GET", "/users/full/recommendations").status_code == 200
        response = send()
    assert_stored(service, network, {"full": acknowledged})
    service.end(signal.SIGKILL)
    again = start("--history=")
    assert_stored(again, network, {"full": acknowledged})
    assert again.ask("POST", "/events", json=event("full", acknowledged)).status_code == 200


def call_serve(folder, *argv):
    """Call the command in the current process, in a folder; return its exit code and output."""
    from experiments import serve

    os.chdir(folder)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = runs.call(serve.main, "--port=0", "--compilation_cache=", *argv)
    return code, out.getvalue() + err.getvalue()


def call_serve_and_list_users(folder, environment, *argv):
    """Ask the application for users, without and with a token, in place of serving it."""
    answers = []

    async def ask(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            for headers in ({}, {"Authorization": "Bearer secret"}):
                answer = await client.get("/users", headers=headers)
                answers.append((answer.status_code, answer.json()))

    def run(server, sockets):
        asyncio.run(ask(server.config.app))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn.Server, "run", run)
        for name, value in environment.items():
            patch.setenv(name, value)
        code, output = call_serve(folder, *argv)
    assert code == 0, output
    return answers


@pytest.fixture(scope="module")
def child():
    """A fresh process: in this one, another command may have defined flags of the same names."""
    with futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        yield lambda function, *arguments: executor.submit(function, *arguments).result(SECONDS)


def test_a_bad_start_ends_in_one_line(child, trained_run, tmp_path):
    (tmp_path / "token").write_text(" \n")
    (tmp_path / "damaged").write_bytes(b"no database" * 1000)
    (tmp_path / "log.csv").write_text("a,b\n1,2\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for said, argv in {
            "--run": ["--run="],
            "recipe.json": ["--run=."],
            f"--port={port}": [f"--port={port}"],
            "--host=192.0.2.1": ["--host=192.0.2.1"],
            "is empty: write a token": ["--token_file=token"],
            "--token_file=none": ["--token_file=none"],
            "damaged": ["--states=damaged"],
            "no/states": ["--states=no/states", "--history="],
            "log.csv: no column 'user_id'": ["--history=log.csv"],
            "none.csv": ["--history=none.csv"],
            "seed_7": ["--seed=7"],
        }.items():
            given = (f"--run={trained_run}", "--states=states.sqlite", *argv)
            code, output = child(call_serve, tmp_path, *given)
            assert code == 2, said
            assert re.fullmatch(r"error: .*\n", output), output
            assert said in output


@pytest.mark.parametrize("source", ["file", "environment"])
def test_the_token_of_a_file_or_the_environment_is_required(child, trained_run, tmp_path, source):
    (tmp_path / "token").write_text("secret\n")
    argv = [f"--run={trained_run}", "--states=states.sqlite", "--history="]
    environment = {"HRNN_JAX_TOKEN": "secret"}
    if source == "file":
        argv, environment = [*argv, "--token_file=token"], {}
    without, given = child(call_serve_and_list_users, tmp_path, environment, *argv)
    assert without[0] == 401
    assert given == (200, {"users": []})


def test_the_history_of_a_log_is_read_as_the_run_read_it(tmp_path):
    (tmp_path / "log.csv").write_text(
        "who,what,when,visit,kind\nb,x,1600000002,7,1\na,y,1600000001,8,1\na,z,1600000000,8,4\n"
    )
    columns = {"user": "who", "item": "what", "time": "when", "session": "visit", "type": "kind"}
    recipe = DataConfig(drop_types=("4",))
    about = {"name": "x", "columns": columns, "recipe": dataclasses.asdict(recipe)}
    by_visit = import_history.read(tmp_path / "log.csv", about)
    assert by_visit.sort("user_id").to_dict(as_series=False) == {
        **{"user_id": ["a", "b"], "item_id": ["y", "x"], "session_id": [8, 7]},
        "ts": [datetime.datetime(2020, 9, 13, 12, 26, 40 + n) for n in (1, 2)],
    }
    by_time = import_history.read(
        tmp_path / "log.csv", about | {"columns": columns | {"session": None}}
    )
    assert by_time.columns == ["user_id", "item_id", "ts"]


def test_make_serve_takes_a_run_folder():
    options = ["--no-print-directory", "-n", "-o", ".venv/with-serve"]
    command = ["make", *options, "serve", "RUN=out/run", "FLAGS=--port=0"]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert printed == ".venv/bin/python -m experiments.serve --run=out/run --port=0\n"
