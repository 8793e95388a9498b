"""The example of an own data set: its events, prepared by its recipe, and a run on it."""

import json

import polars as pl
import pytest

from hrnn_jax.errors import InputError
from hrnn_jax.preprocess import datasets, prepared
from tests.docs import examples

N_USERS, N_VISITS = 6, 4


@pytest.fixture
def visits(tmp_path, monkeypatch):
    """Write the file that the example reads: four visits of three items for each user."""
    lines = ["user,start,items"]
    for day in range(N_VISITS):
        for user in range(N_USERS):
            items = " ".join(f"i{(user + day + n) % 5}" for n in (0, 2, 1))
            lines.append(f"u{user},2026-03-{day + 1:02d} 09:30:00,{items}")
    (tmp_path / "visits.csv").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_visits_become_sessions_with_their_items_in_order(visits):
    examples.load("own_data_set")
    source = datasets.source("visits", visits / "prepared")
    folder = prepared.prepare(source, datasets.recipe("visits"), visits / "prepared")
    log, items = prepared.load(folder), prepared.load_items(folder)
    users = pl.read_parquet(folder / prepared.USERS)
    assert len(users) == N_USERS
    assert len(log) == N_USERS * N_VISITS * 3
    expected = [f"i{(u + day + n) % 5}" for u in range(6) for day in range(4) for n in (0, 2, 1)]
    assert [items[i] for i in log.item] == expected
    assert log.test.sum() == N_USERS * 3


def test_the_command_ranks_the_data_set(visits):
    examples.run(
        "own_data_set", "--dataset=visits", "--model=ppop", "--output_dir=run", folder=visits
    )
    metrics = json.loads((visits / "run/metrics.json").read_text())
    assert metrics["title"] == "visits"
    assert metrics["mean"]["cases"] == N_USERS * 2


@pytest.mark.parametrize(
    ("events", "name"),
    [(pl.LazyFrame, "LazyFrame"), (dict, "dict"), (lambda: None, "NoneType")],
)
def test_a_function_that_returns_no_frame_is_refused(tmp_path, monkeypatch, events, name):
    monkeypatch.setattr(datasets, "_registered", {"mine": events})
    with pytest.raises(InputError, match=f"`dataset`=mine: its function returned {name}; return"):
        datasets.source("mine", tmp_path)
    assert not list(tmp_path.rglob("*.parquet*"))


def test_a_log_besides_and_a_taken_name_are_refused(visits):
    example = examples.load("own_data_set")
    with pytest.raises(InputError, match="`dataset`=visits brings its own log"):
        datasets.source("visits", visits, events=visits / "visits.csv")
    with pytest.raises(InputError, match="`name`=visits: there is a data set of this name"):
        datasets.register("visits", example.events)
