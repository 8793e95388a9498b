"""The service as a process: start, end, and the events that it stores whatever happens to it."""

import asyncio
import contextlib
import dataclasses
import io
import itertools
import json
import multiprocessing
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent import futures

import httpx
import polars as pl
import pytest
import uvicorn

from experiments.serving import import_history
from hrnn_jax.config import DataConfig, RecommenderConfig
from hrnn_jax.errors import InputError
from hrnn_jax.files.checkpoint import load_run
from hrnn_jax.live.events import Event
from hrnn_jax.live.recommender import Recommender
from hrnn_jax.live.store import state_file, state_store
from hrnn_jax.preprocess import datasets, prepared
from tests.helpers import logs, postgresql, runs

ROOT = pathlib.Path(__file__).parents[2]
ITEMS = [f"i{n}" for n in range(20)]


SECONDS = 300  # a time limit far above what a start takes


@pytest.fixture(scope="module")
def network(trained_run):
    return load_run(trained_run)


class Service:
    """A process of experiments.serve."""

    def __init__(self, run, states, output, *argv):
        self.output, self.headers = output, {}
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
        url = self.url + path
        return httpx.request(method, url, timeout=SECONDS, **{"headers": self.headers} | more)

    def end(self, number=signal.SIGTERM):
        """Send a signal; returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


@pytest.fixture
def start(trained_run, tmp_path):
    """Start services one after the other on one state file; none outlives the test."""
    started = []

    def start_service(*argv):
        output = tmp_path / f"{len(started)}.out"
        service = Service(trained_run, tmp_path / "states.sqlite", output, *argv)
        started.append(service)
        return service.wait_ready()

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
    start, child, trained_run, network, tmp_path
):
    """Also over a file without a byte, as a start on a full disk leaves it.

    Bug: take it for a file of states, and know no user.
    """
    (tmp_path / "states.sqlite").touch()
    first = start()
    assert "imported the history of 30 users: events 720 observed\n" in first.said
    recall = json.loads((trained_run / "metrics.json").read_text())["mean"]["recall@5"]
    named = (
        f"serving HRNN Init --hidden_units=8 --dropout_session=0 --batch_size=30 of {trained_run}"
    )
    assert f"\n{named}, recall@5 {recall:.4f}\nready in" in first.said
    earliest, latest = (first.ready_time - begun for begun in first.begun[::-1])
    assert earliest - 1.1 < first.ready_seconds < latest + 1.1  # systems give starts in seconds
    health = first.ask("GET", "/health").json()
    assert (health["model"], health["states"], health["items"]) == ("HRNN Init", 30, 20)
    assert not health["simulated"]
    assert health["data"] == "log.csv"  # not where it is
    assert first.ask("GET", "/users", headers={"Host": "evil.example"}).status_code == 421
    [prepared_folder] = (trained_run.parent / "prepared").glob("events-*")
    about = json.loads((trained_run / "data.json").read_text())
    by_log = import_history.read(trained_run.parent / "log.csv", about)
    with Recommender(*network, state_store.IN_MEMORY) as plain:
        plain.take_sessions(import_history.read(prepared_folder, about))
        expected = plain.recommend("u3")
    with Recommender(*network, state_store.IN_MEMORY) as plain:
        plain.take_sessions(by_log)  # nothing of this log was filtered out
        assert plain.recommend("u3") == expected
    answer = first.ask("GET", "/users/u3/recommendations").json()["recommendations"]
    assert [entry["item"] for entry in answer] == [item for item, _ in expected]
    assert first.ask("POST", "/events", json=event("u3", 0)).json() == {"outcomes": ["observed"]}

    # while the first has the states open
    given = (f"--run={trained_run}", f"--states={tmp_path / 'states.sqlite'}", "--history=")
    code, said = child(call_serve, tmp_path, *given)
    assert code == 2
    assert re.fullmatch(r"error: .*states.sqlite is in use by another process: .*\n", said)

    assert first.end() == 0
    assert "rror" not in first.said
    assert {path.name for path in tmp_path.iterdir()} == {"0.out", "states.sqlite"}
    second = start()
    assert "history" not in second.said
    users = second.ask("GET", "/users", params={"prefix": "u3"}).json()["users"]
    assert users == [{"user": "u3", "events": 25}]
    assert second.end(signal.SIGINT) == 0
    assert second.said.endswith("\nstopped\n")


def test_acknowledged_events_survive_kill_9_and_a_full_disk(start, network, tmp_path):
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
    counts["full"] = send_until_the_disk_is_full(again, tmp_path)
    assert_stored(again, network, counts)
    again.end(signal.SIGKILL)
    last = start("--history=")
    assert_stored(last, network, counts)
    assert last.ask("POST", "/events", json=event("full", counts["full"])).status_code == 200


def send_until_the_disk_is_full(service, folder):
    """Let no file grow by much, and send events until none fits; return how many did."""
    acknowledged = 0

    def send():
        return service.ask("POST", "/events", json=event("full", acknowledged))

    while acknowledged < 5:
        assert send().status_code == 200
        acknowledged += 1
    size = (folder / "states.sqlite-wal").stat().st_size
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
    return acknowledged


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
        "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
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
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
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
            "--token_file=none: No such file or directory; give": ["--token_file=none"],
            "--token_file=.: Is a directory; give": ["--token_file=."],
            "damaged": ["--states=damaged"],
            "no/states": ["--states=no/states", "--history="],
            "log.csv: no column 'user_id'": ["--history=log.csv"],
            "none.csv": ["--history=none.csv"],
            "--items=log.csv: no column item_id, title; the file has a, b": ["--items=log.csv"],
            "--image_hosts='a b'": ["--image_hosts=a b"],
            "--allowed_hosts='https://a.example'": ["--allowed_hosts=https://a.example"],
            "seed_7": ["--seed=7"],
        }.items():
            given = (f"--run={trained_run}", "--states=states.sqlite", *argv)
            code, output = child(call_serve, tmp_path, *given)
            assert code == 2, said
            assert re.fullmatch(r"error: .*\n", output), output
            assert said in output


def test_a_stopped_service_does_not_wait_for_the_end_of_python():
    """Bug: crash in it, where XLA compiles in a thread of its own."""
    script = (
        "import atexit, signal\n"
        "from experiments import serve\n"
        "atexit.register(print, 'finalised')\n"
        "serve._serve = lambda: signal.raise_signal(signal.SIGTERM)\n"
        "serve.main()\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr


def call_serve_with_token(folder, token, *argv):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HRNN_JAX_TOKEN", token)
        return call_serve(folder, *argv)


def test_a_blank_token_starts_no_open_service(child, trained_run, tmp_path):
    code, output = child(call_serve_with_token, tmp_path, " ", f"--run={trained_run}")
    assert (code, output) == (
        2,
        "error: HRNN_JAX_TOKEN is set but blank: write a token into it, or unset it\n",
    )


@pytest.mark.parametrize("token", ["ab\udcff", "caf\u00e9", "two words", "two\nlines"])
@pytest.mark.parametrize("source", ["file", "environment"])
def test_a_token_that_no_client_can_send_is_refused(child, trained_run, tmp_path, token, source):
    """Bug: end in a traceback, or lock everybody out."""
    (tmp_path / "token").write_bytes(f"{token}\n".encode(errors="surrogateescape"))
    given, where = ("good", "--token_file=token") if source == "file" else (token, "HRNN_JAX_TOKEN")
    argv = [f"--run={trained_run}", *(["--token_file=token"] if source == "file" else [])]
    code, output = child(call_serve_with_token, tmp_path, given, *argv)
    assert code == 2
    assert re.fullmatch(f"error: {where}: a token is one word of .*\n", output), output


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


def about_of(path, **settings):
    """Return the data.json of a run on a log, and the folder that it is prepared in."""
    source = datasets.source("events", path.parent, events=path)
    folder = prepared.prepare(source, DataConfig(**settings), path.parent / "prepared")
    return prepared.load_meta(folder), folder


def test_the_history_of_a_log_is_read_and_cut_as_that_of_the_run(tmp_path):
    """Sessions of an earlier first event come first. Bug: forget the separator, or types."""
    lines = [
        "user_id\titem_id\tcreated_at\tvisit\tinteraction_type",
        *("b\tx\t1600000002.5\t7\t1", "a\ty\t1600000001\t8\t1", "a\tz\t1600000000\t8\t4"),
        *("a\tz\t1600000003\t9\t1", "a\tx\t1600000004\t8\t1", "b\tx\t1600009000\t6\t1"),
    ]
    (tmp_path / "other.csv").write_text("\n".join(lines))
    columns = {"user": "user_id", "item": "item_id", "time": "created_at", "session": "visit"}
    recipe = dataclasses.asdict(DataConfig(drop_types=("4",)))
    about = {
        **{"name": "xing", "reading": {"separator": "\t"}, "recipe": recipe},
        "columns": columns | {"type": "interaction_type"},
    }
    past = import_history.read(tmp_path / "other.csv", about)
    assert past.rows() == [
        ("a", "y", 1_600_000_001, 0, 8, 1_600_000_004.0),
        ("a", "x", 1_600_000_004, 0, 8, 1_600_000_004.0),
        ("a", "z", 1_600_000_003, 1, 9, 1_600_000_003.0),
        ("b", "x", 1_600_000_002, 2, 7, 1_600_000_002.5),
        ("b", "x", 1_600_009_000, 3, 6, 1_600_009_000.0),
    ]


def about_of_run(run):
    return json.loads((run / "data.json").read_text())


def run_on(folder, path, **settings):
    """Make what the import reads of a run folder; returns its data.json."""
    about, prepared_folder = about_of(path, **settings)
    (folder / "recipe.json").write_text(json.dumps({"data": prepared_folder.name}))
    (folder / "flags").write_text(f"--prepared_dir={prepared_folder.parent}\n")
    return about, prepared_folder


def test_the_default_history_has_the_users_whom_the_filters_dropped(tmp_path):
    """User c has one session of three; the log may have changed, or be gone."""
    path = logs.write(tmp_path / "log.csv")
    with path.open("a") as file:
        file.writelines(f"c,i{n},{1_600_000_000 + 60 * n}\n" for n in range(3))
    about, folder = run_on(tmp_path, path, min_support=1)
    past, lines = import_history.of_run(tmp_path, about)
    assert lines == [f"with 1 users whom the filters dropped, from {path}"]
    assert past.filter(user_id="c")["item_id"].to_list() == ["i0", "i1", "i2"]
    kept = past.filter(pl.col("user_id") != "c")
    assert kept.rows() == import_history.read(folder, about).rows()
    for change, words in ((lambda: path.write_text("x"), "has changed"), (path.unlink, "not here")):
        change()
        past, [line] = import_history.of_run(tmp_path, about)
        assert past.rows() == kept.rows()
        assert re.fullmatch(
            f"only users whom the filters kept are known .*{words}.*--history=.*", line
        )
    shutil.rmtree(folder)
    past, [line] = import_history.of_run(tmp_path, about)
    assert past is None
    assert "no history is imported" in line


def test_of_two_services_that_import_together_the_later_one_replaces_no_file(
    trained_run, network, tmp_path, monkeypatch
):
    """Bug: rename the new file to the name of that which the other one has open."""
    past = import_history.read(trained_run.parent / "log.csv", about_of_run(trained_run))
    states, config, other = tmp_path / "states.sqlite", RecommenderConfig(), []
    check, calls = state_file.refuse_strays, []

    def the_other_one_is_faster(path):
        check(path)
        calls.append(path)
        if len(calls) == 2:  # right before the file gets its name
            with monkeypatch.context() as patch:
                patch.setattr(state_file, "refuse_strays", check)
                import_history.write_states(states, network, past, config)
            other.append(Recommender(*network, states))

    monkeypatch.setattr(state_file, "refuse_strays", the_other_one_is_faster)
    with pytest.raises(InputError, match="was made meanwhile: is another service starting"):
        import_history.write_states(states, network, past, config)
    with other[0] as recommender:
        assert recommender.observe(user="u", item=ITEMS[0]) == "observed"
        assert len(recommender) == 31
    assert [path.name for path in tmp_path.iterdir()] == ["states.sqlite"]


def test_an_import_makes_the_file_that_a_link_leads_to(trained_run, network, tmp_path):
    """Bug: say at each start that another service has made the file."""
    past = import_history.read(trained_run.parent / "log.csv", about_of_run(trained_run))
    link = tmp_path / "states.sqlite"
    link.symlink_to(tmp_path / "elsewhere.sqlite")
    import_history.write_states(link, network, past, RecommenderConfig())
    with Recommender(*network, link) as recommender:
        assert len(recommender) == 30
    assert link.is_symlink()


def test_of_two_services_that_import_into_a_database_the_later_one_goes_on(trained_run, network):
    """Bug: end, or import the history twice."""
    past = import_history.read(trained_run.parent / "log.csv", about_of_run(trained_run))
    with (
        postgresql.database() as url,
        Recommender(*network, url) as first,
        Recommender(*network, url) as second,
    ):
        lines = [import_history.add_states(one, past) for one in (first, second)]
        assert lines[0] == "imported the history of 30 users: events 720 observed"
        assert lines[1].endswith("has imported the history")
        assert sum(n for _, n in second.users()) == 720


def test_a_folder_of_the_former_format_is_replayed_with_a_line_that_says_so(tmp_path):
    """Its sessions are those trained on; bug: refuse it, or pass over what it lacks."""
    former = ROOT / "tests" / "data" / "run_format_1"
    about = json.loads((former / "hrnn_init" / "data.json").read_text())
    [folder] = (former / "prepared").iterdir()
    (tmp_path / "recipe.json").write_text(json.dumps({"data": folder.name}))
    shutil.copytree(folder, tmp_path / folder.name)
    past, [line, _] = import_history.of_run(tmp_path, about)
    assert "earlier version, without the ids and the ends of sessions" in line
    events = pl.read_parquet(folder / "events.parquet")
    assert past["session"].to_list() == events["session"].to_list()
    assert past["session_id"].is_null().all()


@pytest.mark.parametrize(
    ("file", "bad", "words"),
    [
        ("users.parquet", "a\tb", "row 3: user 'a\\tb': ids must not contain control"),
        ("items.parquet", "", "row 3: item '': ids have 1 to 256 bytes, not 0"),
        ("events.parquet", -5, "row 3: time -5: give Unix seconds"),
    ],
)
def test_a_bad_id_in_a_history_is_refused_by_file_and_row(file, bad, words, tmp_path):
    about, folder = about_of(logs.write(tmp_path / "log.csv"), min_support=1)
    table = pl.read_parquet(folder / file)
    column = "time" if file == "events.parquet" else "raw_id"
    values = table[column].to_list()
    values[2] = bad
    table.with_columns(pl.Series(column, values)).write_parquet(folder / file)
    with pytest.raises(InputError) as raised:
        import_history.read(folder, about)
    assert f"{folder / file}, {words}" in str(raised.value)
    assert "change it in the log" in str(raised.value)


def test_make_serve_takes_a_run_folder():
    options = ["--no-print-directory", "-n", "-o", ".venv/with-serve"]
    command = ["make", *options, "serve", "RUN=out/run", "FLAGS=--port=0"]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert printed == ".venv/bin/python -m experiments.serve --run=out/run --port=0\n"


def hang_up_before_ready(service, token):
    """Send SIGHUP while the service reads its token from a pipe, then let it go on."""
    while True:
        assert service.process.poll() is None, service.said
        with contextlib.suppress(OSError):  # as long as nobody reads
            pipe = os.open(token, os.O_WRONLY | os.O_NONBLOCK)
            break
        time.sleep(0.01)
    service.process.send_signal(signal.SIGHUP)
    os.write(pipe, b"secret")
    os.close(pipe)
    service.headers = {"Authorization": "Bearer secret"}
    return service.wait_ready()


def wait_until_reloaded(service):
    while (health := service.ask("GET", "/health").json()["reload"])["status"] != "done":
        assert health["status"] in ("none", "loading", "computing states"), service.said
        assert service.process.poll() is None, service.said
        time.sleep(0.05)


def test_sighup_swaps_the_weights_of_a_run_that_was_trained_again(trained_run, tmp_path):
    """Events are sent all the while, and a kill follows: no acknowledged one is lost.

    A signal that comes before the service is ready is answered once it is. Bug: let it end the
    process, as it does by default.
    """
    run = shutil.copytree(trained_run, tmp_path / "run")
    [newest] = (run / "checkpoint").glob("seed_*/2")
    newest.rename(tmp_path / "2")
    before = load_run(run)
    argv = ["--history=", f"--compilation_cache={trained_run.parent / 'compiled'}"]
    service = Service(run, tmp_path / "states.sqlite", tmp_path / "out", *argv)
    acknowledged = {}
    try:
        service.wait_ready()
        sent = [service.ask("POST", "/events", json=event("w", n)).json() for n in range(5)]
        assert sent == [{"outcomes": ["observed"]}] * 5
        assert_stored(service, before, {"w": 5})
        sender = threading.Thread(target=send_until_it_dies, args=(service, "v", acknowledged))
        sender.start()
        while not acknowledged:  # a busy machine may kill the service before it answers
            assert sender.is_alive()
            time.sleep(0.01)
        (tmp_path / "2").rename(newest)
        service.process.send_signal(signal.SIGHUP)
        wait_until_reloaded(service)
        service.end(signal.SIGKILL)
        sender.join()
        os.mkfifo(token := tmp_path / "token")
        argv.append(f"--token_file={token}")
        service = Service(run, tmp_path / "states.sqlite", tmp_path / "again", *argv)
        hang_up_before_ready(service, token)
        wait_until_reloaded(service)
        users = service.ask("GET", "/users").json()["users"]
        counts = {entry["user"]: entry["events"] for entry in users}
        assert acknowledged["v"] <= counts["v"] <= acknowledged["v"] + 1
        assert load_run(run)[0].lineage[0] != before[0].lineage[0]
        assert_stored(service, load_run(run), {"w": 5, "v": counts["v"]})
    finally:
        service.process.kill()
        service.process.wait()
