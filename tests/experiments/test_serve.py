"""The service as a process: how it starts and ends, and what it keeps whatever happens to it."""

import dataclasses
import datetime
import itertools
import json
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

import httpx
import pytest

from experiments.serving import import_history
from hrnn_jax.checkpoint import load_run
from hrnn_jax.config import DataConfig
from hrnn_jax.live import state_store
from hrnn_jax.live.events import Event
from hrnn_jax.live.recommender import Recommender
from tests.helpers import runs

ROOT = pathlib.Path(__file__).parents[2]
ITEMS = [f"i{n}" for n in range(20)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return runs.train(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def network(run):
    return load_run(run)


class Service:
    """A process of experiments.serve."""

    def __init__(self, run, states, output, *argv, **environment):
        self.output = output
        command = [
            *(sys.executable, "-m", "experiments.serve", f"--run={run}", f"--states={states}"),
            *("--port=0", f"--compilation_cache={run.parent / 'compiled'}", *argv),
        ]
        self.begun = time.time()
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=output.parent,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            )

    def wait_ready(self):
        while not (found := re.search(r"ready in (\S+) s at (\S+),", self.said)):
            assert self.process.poll() is None, self.said
            assert time.time() < self.begun + 60, self.said
            time.sleep(0.05)
        self.ready_seconds, self.url = float(found[1]), found[2]
        self.address = "127.0.0.1", int(self.url.rpartition(":")[2])
        return self

    @property
    def said(self):
        return self.output.read_text()

    def ask(self, method, path, **more):
        return httpx.request(method, self.url + path, timeout=30, **more)

    def end(self, number=signal.SIGTERM):
        """Send a signal; returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def start(run, tmp_path):
    """Start services one after the other on one state file; none outlives the test."""
    started = []

    def of(*argv, ready=True, folder=run, **environment):
        output = tmp_path / f"{len(started)}.out"
        service = Service(folder, tmp_path / "states.sqlite", output, *argv, **environment)
        started.append(service)
        return service.wait_ready() if ready else service

    yield of
    for service in started:
        service.process.kill()
        service.process.wait()


def event(user, n):
    """Return the nth event of a user, as it is sent."""
    at = (n * 7 + sum(map(ord, user))) % 20
    return {"user": user, "item": ITEMS[at], "time": 1_700_000_000 + 600 * n}


def send_until_it_dies(service, user, acknowledged):
    """Send a user's events one by one, counting those that are acknowledged."""
    with httpx.Client(base_url=service.url, timeout=30) as client:
        for n in itertools.count():
            try:
                response = client.post("/events", json=event(user, n))
            except httpx.TransportError:
                return
            assert response.json() == {"outcomes": ["observed"]}, response.text
            acknowledged[user] = n + 1


def assert_kept(service, network, counts):
    """What each user is recommended is what these first events of each lead to, and no others."""
    found = service.ask("GET", "/users", params={"limit": 1000}).json()["users"]
    assert {entry["user"]: entry["events"] for entry in found} == counts
    with Recommender(*network, state_store.IN_MEMORY) as plain:
        for user, n in counts.items():
            sent = [event(user, i) for i in range(n)]
            plain.observe_many([Event(e["item"], user, e["time"]) for e in sent])
            answer = service.ask("GET", f"/users/{user}/recommendations").json()
            scores = {entry["item"]: entry["score"] for entry in answer["recommendations"]}
            assert scores == pytest.approx(dict(plain.recommend(user)), abs=1e-5)


def test_the_first_start_takes_in_the_past_and_the_next_goes_on(start, run, network, tmp_path):
    first = start()
    assert "took in the past of 30 users" in first.said
    assert first.ready_seconds == pytest.approx(time.time() - first.begun, abs=1)
    health = first.ask("GET", "/health").json()
    assert (health["model"], health["states"], health["items"]) == ("HRNN Init", 30, 20)
    assert not health["simulated"]
    assert health["data"] == str(run.parent / "log.csv")
    [prepared_folder] = (run.parent / "prepared").glob("events-*")
    about = json.loads((run / "data.json").read_text())
    by_log = import_history.read(run.parent / "log.csv", about)
    with Recommender(*network, state_store.IN_MEMORY) as plain:
        plain.bootstrap(import_history.read(prepared_folder, about))
        expected = plain.recommend("u3")
    with Recommender(*network, state_store.IN_MEMORY) as plain:
        plain.bootstrap(by_log)  # nothing of this log was filtered out
        assert plain.recommend("u3") == expected
    answer = first.ask("GET", "/users/u3/recommendations").json()["recommendations"]
    assert [entry["item"] for entry in answer] == [item for item, _ in expected]
    assert first.ask("POST", "/events", json=event("u3", 0)).json() == {"outcomes": ["observed"]}

    other = start("--history=", ready=False)  # while the first has the states
    assert other.process.wait(30) == 2
    assert re.fullmatch(r"error: .*states.sqlite is in use by another process: .*\n", other.said)

    assert first.end() == 0
    assert "rror" not in first.said
    assert {path.name for path in tmp_path.iterdir()} == {"0.out", "1.out", "states.sqlite"}
    second = start()
    assert "past" not in second.said
    users = second.ask("GET", "/users", params={"prefix": "u3"}).json()["users"]
    assert users == [{"user": "u3", "events": 25}]
    assert second.end(signal.SIGINT) == 130
    assert second.said.endswith("\ninterrupted\n")


def test_what_was_acknowledged_outlives_kill_9(start, network):
    service = start("--history=")
    acknowledged = {}
    senders = [
        threading.Thread(target=send_until_it_dies, args=(service, f"v{n}", acknowledged))
        for n in range(8)
    ]
    for sender in senders:
        sender.start()
    while sum(acknowledged.values()) < 300:
        time.sleep(0.01)
    service.end(signal.SIGKILL)
    for sender in senders:
        sender.join()
    again = start("--history=")
    found = again.ask("GET", "/users").json()["users"]
    counts = {entry["user"]: entry["events"] for entry in found}
    for user, n in acknowledged.items():
        assert n <= counts[user] <= n + 1  # the last may have been kept, and its answer cut off
    assert_kept(again, network, counts)


def test_requests_in_flight_are_answered_before_the_end(start, network):
    service = start("--history=")
    body = json.dumps({"events": [event("w", n) for n in range(300)]}).encode()
    head = (
        "POST /events HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(service.address, timeout=30) as connection:
        connection.sendall(head.encode() + body[:-1])
        time.sleep(0.3)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        connection.sendall(body[-1:])
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b"observed") == 300
    assert service.process.wait(30) == 0
    assert "anyone" not in service.said
    again = start("--history=", "--host=0.0.0.0")
    assert "anyone who reaches this machine may ask and write" in again.said
    assert_kept(again, network, {"w": 300})


def test_a_full_disk_costs_what_is_not_acknowledged_and_nothing_else(start, network, tmp_path):
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
    assert_kept(service, network, {"full": acknowledged})
    service.end(signal.SIGKILL)
    again = start("--history=")
    assert_kept(again, network, {"full": acknowledged})
    assert again.ask("POST", "/events", json=event("full", acknowledged)).status_code == 200


def test_a_bad_start_ends_in_one_line(start, run, tmp_path):
    (tmp_path / "token").write_text(" \n")
    (tmp_path / "damaged").write_bytes(b"no database" * 1000)
    (tmp_path / "log.csv").write_text("a,b\n1,2\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cases = {
            "--run": start("--run=", ready=False),
            "recipe.json": start(ready=False, folder=tmp_path),
            f"--port={port}": start(f"--port={port}", ready=False),
            "--host=192.0.2.1": start("--host=192.0.2.1", ready=False),
            "is empty: write a token": start("--token_file=token", ready=False),
            "--token_file=none": start("--token_file=none", ready=False),
            "damaged": start("--states=damaged", ready=False),
            "no/states": start("--states=no/states", "--history=", ready=False),
            "log.csv: no column 'user_id'": start("--history=log.csv", ready=False),
            "none.csv": start("--history=none.csv", ready=False),
            "seed_7": start("--seed=7", ready=False),
        }
        for said, service in cases.items():
            assert service.process.wait(60) == 2, (said, service.said)
            assert re.fullmatch(r"error: .*\n", service.said), service.said
            assert said in service.said


@pytest.mark.parametrize("by", ["file", "environment"])
def test_a_token_is_asked_for(start, tmp_path, by):
    (tmp_path / "token").write_text("secret\n")
    given = {"HRNN_JAX_TOKEN": "secret"} if by == "environment" else {}
    service = start(*([] if given else ["--token_file=token"]), "--history=", **given)
    assert service.ask("GET", "/users").status_code == 401
    found = service.ask("GET", "/users", headers={"Authorization": "Bearer secret"})
    assert found.json() == {"users": []}


def test_the_past_is_what_the_run_took_from_a_log(tmp_path):
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
    command = [
        "make",
        "--no-print-directory",
        "-n",
        "-o",
        ".venv/installed",
        "serve",
        "RUN=out/run",
        "FLAGS=--port=0",
    ]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert printed == ".venv/bin/python -m experiments.serve --run=out/run --port=0\n"
