"""What live gives for a training or test session equals what training and evaluation computed.

Logs, recipes and networks are drawn. HRNN_JAX_FUZZ=300 draws 300 in place of the few of each run.
"""

import dataclasses
import itertools
import os
import pathlib
import tempfile
from typing import Any

import hypothesis
import numpy as np
import polars as pl
import pytest
from hypothesis import strategies as st

from hrnn_jax.config import DataConfig, EvaluationConfig, ModelConfig
from hrnn_jax.live import batched_model
from hrnn_jax.live.recommender import Recommender
from hrnn_jax.live.store import state_store
from hrnn_jax.preprocess import past_sessions, prepared, read_log
from hrnn_jax.ranking import evaluation
from tests.helpers import live_users, mixtures, weights
from tests.hrnn_jax.preprocess import oracle
from tests.hrnn_jax.preprocess.test_sessions import logs, recipes

EXAMPLES = int(os.environ.get("HRNN_JAX_FUZZ", "12"))
V = 5  # the items of `logs`: a run that knows fewer gets others that nobody has, for one shape
START = 1_450_000_000
FORMS: list[dict[str, Any]] = [
    {"variant": "hrnn_init"},
    {"variant": "rnn"},
    {"variant": "rnn_concat", "idle_gap": True},
    {"variant": "hrnn_all", "feed_last_item": True, "leak": "carried"},
    {"variant": "hrnn_init", "idle_gap": True, "places": 3, "neighbours": 2, "layers": 2},
]
# One shape of each program for all logs.
SHAPES = EvaluationConfig(lanes=8, chunk_steps=64)


@pytest.fixture(autouse=True, scope="module")
def _one_width():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batched_model, "WIDTHS", (8,))
        patch.setattr(batched_model, "SCORED_WIDTHS", (8,))
        yield


@dataclasses.dataclass
class Run:
    """A log, the folder that it is prepared in, and a network for it."""

    log: list[dict]
    recipe: DataConfig
    source: read_log.Source
    folder: pathlib.Path
    network: tuple[Any, Any]
    best: dict[tuple[str, int, int], dict]  # by user, session and place: scores before the event

    def recommender(self, states: pathlib.Path | str) -> Recommender:
        return Recommender(*self.network, states)

    @property
    def items(self) -> set[str]:
        return set(map(str, prepared.load_items(self.folder)))


def with_fractions(log: list[dict]) -> list[dict]:
    return [event | {"time": START + event["time"] + event["row"] * 7 % 4 / 4} for event in log]


def make_run(log: list[dict], recipe: DataConfig, form: dict, root: pathlib.Path) -> Run:
    path = root / "log.parquet"
    table = pl.DataFrame(log, infer_schema_length=None)
    texts = {"item": "i{}", "user": "u{}", "session": "visit {}"}
    table.with_columns(
        pl.format(text, name).alias(name) for name, text in texts.items() if name in table.columns
    ).write_parquet(path)
    named = {f"{name}_column": name for name in ("session", "type") if name in log[0]}
    source = read_log.Source("toy", path, read_log.Columns("user", "item", "time", **named))
    folder = prepared.prepare(source, recipe, root)
    config = ModelConfig(n_items=V, hidden_units=4, **form)
    events = dataclasses.replace(prepared.load(folder), n_items=V)
    items = prepared.load_items(folder)
    items = [*items, *(f"no {n}" for n in range(V - len(items)))]
    about = live_users.about(
        config,
        items=items,
        mixture=mixtures.fitted(events, config),
        gap_seconds=60 * recipe.session_gap_minutes,
        drop_repeats=recipe.drop_repeats,
    )
    params = weights.drawn(config)
    return Run(
        log, recipe, source, folder, (about, params), lists_of_evaluation(params, events, about)
    )


def lists_of_evaluation(params, events, about) -> dict[Any, dict]:
    """Return the scores right before each event but the first of a session, as evaluation does.

    Without the items that the session has so far, where repeats were dropped.
    """
    every = dataclasses.replace(events, test=np.ones(len(events), bool))
    items, scores = evaluation.best(
        params, every, V, model_config=about.config, mixture=about.mixture, config=SHAPES
    )
    sessions = events.session - np.maximum.accumulate(
        np.where(events.opens_user, events.session, 0)
    )
    opens = np.flatnonzero(~events.follows)
    place = (
        np.arange(len(events)) - opens[np.searchsorted(opens, np.arange(len(events)), "right") - 1]
    )
    ranked = zip(items.tolist(), scores.tolist(), strict=True)
    return {
        (events.user[case], sessions[case], place[case]): {
            about.items[item]: score
            for item, score in zip(*row, strict=True)
            if not (about.drop_repeats and item in events.item[case - place[case] : case])
        }
        for case, row in zip(every.cases, ranked, strict=True)
    }


def by_session(steps) -> list[list]:
    groups = itertools.groupby(steps, key=lambda step: step.session)
    return [list(group) for _, group in groups]


def assert_as_trained(recommender: Recommender, run: Run, *, test: bool | None = None) -> None:
    """Check the sessions of all users in the prepared folder, and the list after each event."""
    events = pl.read_parquet(run.folder / prepared.EVENTS)
    if test is not None:
        events = events.filter(test=test)
    items = prepared.load_items(run.folder)
    users = pl.read_parquet(run.folder / prepared.USERS)["raw_id"]
    for (number,), mine in events.group_by("user", maintain_order=True):
        steps = recommender.history(users[number], sessions=10**6, k=V)
        trained = [
            list(zip(s["item"].to_list(), s["time"].to_list(), strict=True))
            for s in mine.partition_by("session", maintain_order=True)
        ]
        live = [[(items.index(s.item), s.time) for s in group] for group in by_session(steps)]
        assert live == trained
        for session, group in enumerate(by_session(steps)):
            assert {step.session for step in group} == {session}
            for place, step in enumerate(group[:-1], 1):
                expected = run.best[number, session, place]
                assert dict(step.recommended) == pytest.approx(expected, abs=1e-5)
        last = recommender.recommend(users[number], k=V)
        assert dict(last) == pytest.approx(dict(steps[-1].recommended), abs=1e-5)


def assert_others_are_known(recommender: Recommender, run: Run) -> None:
    """Check that all users of the log are known, by their sessions of known items."""
    kept = set(pl.read_parquet(run.folder / prepared.USERS)["raw_id"])
    for user, sessions in itertools.groupby(
        oracle.sessionise(run.log, run.recipe), key=lambda session: session[0]["user"]
    ):
        if f"u{user}" in kept:
            continue
        if run.recipe.drop_repeats:
            sessions = map(oracle.first_of_kind, sessions)
        known = [
            [(f"i{e['item']}", int(e["time"])) for e in session if f"i{e['item']}" in run.items]
            for session in sessions
        ]
        steps = recommender.history(f"u{user}", sessions=10**6)
        live = [[(s.item, s.time) for s in group] for group in by_session(steps)]
        assert live == [session for session in known if session]


def assert_test_sessions_are_ranked_online(run: Run) -> None:
    """Observe the log's own events of the test sessions, after a start with training alone."""
    kept = dict(oracle.prepare(run.log, run.recipe))
    users = pl.read_parquet(run.folder / prepared.USERS)["raw_id"].to_list()
    with run.recommender(state_store.IN_MEMORY) as live:
        live.take_sessions(past_sessions.of_folder(run.folder, test=False))
        for session in oracle.sessionise(run.log, run.recipe):
            if not any(kept.get(event["row"]) for event in session):
                continue
            user, place = f"u{session[0]['user']}", 0
            [n_before] = {len(by_session(live.history(user, sessions=10**6)))}
            for event in session:
                if kept.get(event["row"]) and place:
                    expected = run.best[users.index(user), n_before, place]
                    assert dict(live.recommend(user, k=V)) == pytest.approx(expected, abs=1e-5)
                visit = f"visit {event['session']}" if "session" in event else None
                outcome = live.observe(
                    user=user, item=f"i{event['item']}", time=event["time"], session=visit
                )
                assert (outcome == "observed") == (event["row"] in kept)
                place += event["row"] in kept
            # The history is what evaluation replayed, too.
            assert len(by_session(live.history(user, sessions=10**6))) == n_before + 1


@hypothesis.settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES < 100)
@hypothesis.given(logs(), recipes, st.sampled_from(FORMS))
def test_live_equals_training_and_evaluation_after_any_start(log, recipe, form):
    """Bugs: cut the sessions anew by the gap, take their numbers for ids, sort events by time."""
    log = with_fractions(log)
    if "type" not in log[0]:
        recipe = dataclasses.replace(recipe, drop_types=())
    hypothesis.assume(any(out for _, out in oracle.prepare(log, recipe)))
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(log, recipe, form, pathlib.Path(folder))
        states = pathlib.Path(folder, "states.sqlite")
        trained_on = past_sessions.of_folder(run.folder)
        others = past_sessions.of_log(
            run.source, recipe, without=trained_on[past_sessions.USER].unique()
        )
        with run.recommender(states) as first:
            first.take_sessions(past_sessions.joined([trained_on, others]))
            assert_as_trained(first, run)
            first.export_states(pathlib.Path(folder, "exported"))
        with run.recommender(states) as again:  # of the file
            assert_as_trained(again, run)
            assert_others_are_known(again, run)
        other_weights = run.network[0], weights.drawn(run.network[0].config, seed=1)
        about = dataclasses.replace(other_weights[0], lineage=("others",))
        with Recommender(about, other_weights[1], states, rebuild=True) as other:
            other.recommend("u0")
        with Recommender(*run.network, states, rebuild=True) as rebuilt:
            assert_as_trained(rebuilt, run)
        with run.recommender(pathlib.Path(folder, "moved.sqlite")) as moved:
            moved.import_states(pathlib.Path(folder, "exported"))
            assert_as_trained(moved, run)
        if not (recipe.drop_repeats and "type" in log[0]):  # live events have no type
            assert_test_sessions_are_ranked_online(run)
