"""POST /reload: which run folders it takes, what it tells, and what it leaves as it is."""

import asyncio
import contextlib
import dataclasses
import sys
import threading

import fastapi
import httpx
import pytest

from experiments.serving.app import Served, Settings, build
from experiments.serving.batcher import Batcher
from experiments.serving.operation.prometheus import ServiceMetrics
from experiments.serving.operation.reload import Reloader, Runs
from hrnn_jax.errors import InputError
from hrnn_jax.live.recommender import Recommender
from hrnn_jax.live.states import reload
from hrnn_jax.live.store import state_store
from tests.helpers import live_users, postgresql, weights

SETTINGS = Settings("a model", "a log", simulated=False, given_sessions=False)
EVENT = {"user": "u0", "item": "i4", "time": live_users.NOW}


def network(seed, lineage):
    config = live_users.config()
    return live_users.about(config, lineage=(lineage,)), weights.drawn(config, seed=seed)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A run folder that is served, and two that a reload may name; each has weights of its own."""
    seeds = {"given": 0, "next": 1, "worse": None}
    below = tmp_path / "runs"
    for name in ("next", "worse", "given"):
        folder = tmp_path / name if name == "given" else below / name
        folder.mkdir(parents=True)
        (folder / "recipe.json").write_text("{}")
    (below / "outside").symlink_to(tmp_path / "given")
    (below / "log").mkdir()  # as out/runs: the runs on each log in a folder of its own
    (below / "log/next").symlink_to(below / "next")
    (below / "log/outside").symlink_to(tmp_path / "given")

    def load(folder, **_):
        if seeds[folder.name] is None:
            raise InputError(f"{folder} is damaged")
        return network(seeds[folder.name], folder.name)

    monkeypatch.setattr(reload, "load_unchanged", load)
    monkeypatch.setattr(reload, "compile_programs", lambda network: [])
    return Runs(tmp_path / "given", tmp_path / "states.sqlite", None, below)


@contextlib.asynccontextmanager
async def service(runs, token=None):
    """Serve the given run; yields a client and the reloader."""
    settings = dataclasses.replace(SETTINGS, token=token)
    metrics = ServiceMetrics()
    with (
        Recommender(*network(0, "given"), runs.states) as recommender,
        contextlib.closing(Batcher(recommender, metrics)) as batcher,
    ):
        served = Served(settings, Reloader(recommender, runs))
        app = build(batcher, metrics, settings, served)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client, served.reloader
            await served.reloader.close()


async def ended(client):
    while (health := (await client.get("/health")).json()["reload"])["status"] not in (
        "done",
        "failed",
    ):
        await asyncio.sleep(0.01)
    return health


async def scores(client):
    answer = await client.get("/users/u0/recommendations", params={"k": 40})
    return [(each["item"], each["score"]) for each in answer.json()["recommendations"]]


def expected(seed):
    with Recommender(*network(seed, "any"), state_store.IN_MEMORY) as plain:
        plain.observe(user="u0", item="i4", time=live_users.NOW)
        return plain.recommend("u0", k=40)


def test_a_reload_is_answered_at_once_and_swaps_the_lists(runs, monkeypatch):
    async def run():
        async with service(runs) as (client, _):
            assert (await client.post("/events", json=EVENT)).status_code == 200
            live_users.assert_same_lists([await scores(client)], [expected(0)])
            load, goes_on = reload.load_unchanged, threading.Event()
            before, turns = sys.getswitchinterval(), []

            def wait(folder, **more):
                turns.append(sys.getswitchinterval())
                goes_on.wait(60)
                return load(folder, **more)

            monkeypatch.setattr(reload, "load_unchanged", wait)
            answer = await client.post("/reload", json={"run": "next"})
            assert (answer.status_code, answer.json()["status"]) == (202, "loading")
            again = await client.post("/reload", json={})
            assert (again.status_code, again.json()["detail"].partition(":")[0]) == (
                409,
                "a reload is under way",
            )
            live_users.assert_same_lists([await scores(client)], [expected(0)])
            goes_on.set()
            assert await ended(client) == {"status": "done", "part": 1.0}
            live_users.assert_same_lists([await scores(client)], [expected(1)])
            assert turns == [pytest.approx(0.001)]  # requests need several
            assert sys.getswitchinterval() == before

    asyncio.run(run())


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"run": "none"}, 404),
        ({"run": "outside"}, 404),
        ({"run": "log"}, 404),
        ({"run": "log/outside"}, 404),
        ({"run": "log/../log/next"}, 422),
        ({"run": "log//next"}, 422),
        ({"run": "log/" + 256 * "n"}, 422),
        ({"run": ".."}, 422),
        ({"run": "../given"}, 422),
        ({"run": "/etc"}, 422),
        ({"run": "next\0"}, 422),
        ({"run": "next", "seed": 1}, 422),
    ],
)
def test_no_other_folder_is_loaded_and_no_path_is_told(runs, body, status):
    async def run():
        async with service(runs) as (client, reloader):
            answer = await client.post("/reload", json=body)
            assert answer.status_code == status
            assert str(runs.below) not in answer.text
            assert reloader.health.status == "none"

    asyncio.run(run())


def test_a_run_may_be_in_a_folder_of_its_log(runs):
    """Bug: no run of the default folders, out/runs/LOG/MODEL, could be named."""

    async def run():
        async with service(runs) as (client, _):
            assert (await client.post("/events", json=EVENT)).status_code == 200
            assert (await client.post("/reload", json={"run": "log/next"})).status_code == 202
            assert (await ended(client))["status"] == "done"
            live_users.assert_same_lists([await scores(client)], [expected(1)])

    asyncio.run(run())


def test_a_run_of_another_folder_is_named_only_by_a_flag(runs):
    async def run():
        async with service(runs._replace(below=None)) as (client, _):
            answer = await client.post("/reload", json={"run": "next"})
            assert answer.status_code == 404
            assert "--reload_runs" in answer.json()["detail"]

    asyncio.run(run())


def test_a_reload_needs_the_token_and_a_body_of_json(runs):
    async def run():
        async with service(runs, token=b"secret") as (client, reloader):
            assert (await client.post("/reload", json={})).status_code == 401
            client.headers["Authorization"] = "Bearer secret"
            # As a page of another site may send it without asking.
            answer = await client.post("/reload", content="{}", headers={"Content-Type": "text/x"})
            assert answer.status_code == 415
            assert reloader.health.status == "none"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"run": ' + "[" * 16_384, "the body has more than 16,384 brackets"),
        ('{"run": "none", "run": null}', "body.'run': give it once"),
    ],
    ids=["brackets", "twice"],
)
def test_a_body_of_a_reload_is_read_as_strictly_as_events(runs, body, said):
    """Bug: read a million brackets, for which the loop stops, and take one of two names."""

    async def run():
        async with service(runs) as (client, reloader):
            kind = {"Content-Type": "application/json"}
            answer = await client.post("/reload", content=body, headers=kind)
            assert answer.status_code == 422
            assert answer.json()["detail"].startswith(said)
            assert reloader.health.status == "none"

    asyncio.run(run())


def test_a_reload_that_fails_is_told_and_changes_nothing(runs, caplog):
    async def run():
        async with service(runs) as (client, reloader):
            await client.post("/events", json=EVENT)
            assert (await client.post("/reload", json={"run": "worse"})).status_code == 202
            assert (await ended(client))["status"] == "failed"
            assert (await client.get("/health")).json()["status"] == "ok"
            live_users.assert_same_lists([await scores(client)], [expected(0)])
            assert (await client.post("/events", json=EVENT)).status_code == 200
            reloader.start_by_signal()
            assert (await ended(client))["status"] == "done"

    asyncio.run(run())
    [line] = [record.message for record in caplog.records if "has failed" in record.message]
    assert line.endswith("and the run of before serves on: " + f"{runs.below / 'worse'} is damaged")


def test_a_reload_is_refused_where_a_restart_would_not_find_the_states(runs, caplog):
    """Bug: swap the states inside the former run folder, and begin without any in the next one."""

    async def run():
        async with service(runs._replace(states=runs.given / "states.sqlite")) as (client, _):
            await client.post("/reload", json={"run": "next"})
            assert (await ended(client))["status"] == "failed"
            await client.post("/reload", json={})
            assert (await ended(client))["status"] == "done"

    asyncio.run(run())
    assert "start the service with --states=FILE outside of it" in caplog.text


def test_a_reload_of_states_in_a_database_is_refused_at_once(runs, caplog):
    """Bug: take it, load and compile the next network, and say in the log alone that it failed."""

    async def run(url):
        async with service(runs._replace(states=url)) as (client, reloader):
            answer = await client.post("/reload", json={"run": "next"})
            assert answer.status_code == 404
            assert "for a state file alone: start again" in answer.json()["detail"]
            reloader.start_by_signal()
            assert reloader.health.status == "none"

    with postgresql.database() as url:
        asyncio.run(run(url))
    [line] = caplog.messages
    assert line.startswith("SIGHUP: weights are reloaded for a state file alone")


def test_a_service_without_a_run_folder_reloads_nothing():
    with pytest.raises(fastapi.HTTPException, match="404"):
        Reloader(None).start(None)
