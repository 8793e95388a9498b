"""Steps of fewer lanes: which they are, and that they change nothing but the time they take."""

import functools
import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from hrnn_jax.config import ModelConfig, TrainConfig
from hrnn_jax.training import lane_widths, train, user_batches
from hrnn_jax.training.epoch import _program, epoch_schedule, run_epoch
from hrnn_jax.training.lane_widths import Part, Width
from tests.helpers import logs

N_ITEMS, BATCH = 30, 8


@functools.cache
def log():
    """Make a log whose last user has far more events than any other."""
    rng = np.random.default_rng(0)
    users = [
        [rng.integers(0, N_ITEMS, 4).tolist() for _ in range(sessions)]
        for sessions in [*[3] * 12, 6, 9, 40]
    ]
    return logs.of(users, n_items=N_ITEMS)


def widths(schedules, bptt_steps=1, chunk_updates=16):
    """Return the width of each update, of those chosen for the first schedule."""
    chosen = lane_widths.choose(schedules[0], bptt_steps)
    plan = lane_widths.plan(schedules, chosen, bptt_steps, chunk_updates)
    for parts in plan:
        assert parts[0].begin == 0
        assert all(a.end == b.begin for a, b in itertools.pairwise(parts))
        assert parts[-1].end <= chunk_updates
    return [part.width for parts in plan for part in parts for _ in range(part.end - part.begin)]


@hypothesis.given(
    seed=st.integers(0, 50), batch_size=st.integers(1, 40), bptt_steps=st.integers(1, 3)
)
def test_each_update_has_enough_lanes(seed, batch_size, bptt_steps):
    several = logs.random(seed, users=30, sessions=6)
    schedules = [
        user_batches.build(several, batch_size, rng=np.random.default_rng(number))
        for number in range(2)
    ]
    found = widths(schedules, bptt_steps)
    longest = max(len(schedule.event) for schedule in schedules)
    assert len(found) == -(-longest // bptt_steps)
    for schedule in schedules:
        steps = schedule.steps
        opens = steps.session_start & ~steps.user_start
        for t in range(len(steps.input)):
            width = found[t // bptt_steps]
            assert (schedule.event[t, width.lanes :] == user_batches.NO_EVENT).all()
            assert opens[t].sum() <= width.opening <= width.lanes


def test_the_widths_of_all_epochs_are_those_chosen_once():
    """And a later epoch waits for no program: each is compiled in the first."""
    setup = train.make_setup(log(), ModelConfig(N_ITEMS), TrainConfig(batch_size=BATCH))
    assert {width.lanes for width in setup.widths} == {4}
    whole_width = Width(BATCH, BATCH)
    for seed in range(5):
        schedule = user_batches.build(log(), BATCH, rng=np.random.default_rng(seed))
        plan = lane_widths.plan([schedule], setup.widths, 1, 16)
        found = {part.width for parts in plan for part in parts}
        assert found <= {*setup.widths, whole_width}
    model_config, config = ModelConfig(N_ITEMS, hidden_units=6), TrainConfig(batch_size=BATCH)
    compiled = []
    state = train.init_state(0, model_config, config)
    setup = train.make_setup(log(), model_config, config)
    for epoch in range(4):
        schedule = epoch_schedule(log(), model_config, config, seed=0, epoch=epoch)
        state, _ = run_epoch(state, [schedule], setup, seeds=[0], epoch=epoch)
        compiled.append(_program.cache_info().misses)
    assert compiled == compiled[:1] * 4


def test_lanes_halve_as_users_run_out():
    schedule = user_batches.build(log(), BATCH)
    found = widths([schedule])
    n_filled = (schedule.event != user_batches.NO_EVENT).sum(axis=1)
    assert {width.lanes for width in found} == {8, 4}
    narrow = [width.lanes == 4 for width in found]
    assert narrow == [bool(n <= 4) for n in n_filled]


def test_a_number_of_lanes_for_few_steps_joins_the_larger_one():
    short = log().where(log().session < log().session.max() - 30)
    schedule = user_batches.build(short, BATCH)
    assert (schedule.event != user_batches.NO_EVENT).sum(axis=1).min() <= 4
    assert set(widths([schedule])) == {Width(BATCH, BATCH)}


def test_a_step_in_which_many_sessions_open_has_all_lanes():
    long = logs.random(0, users=400, sessions=8, n_items=N_ITEMS)
    schedule = user_batches.build(long, 40, rng=np.random.default_rng(0))
    opens = (schedule.steps.session_start & ~schedule.steps.user_start).sum(axis=1)
    found = widths([schedule])
    whole = np.array([width == Width(40, 40) for width in found])
    [usual] = {width.opening for width in found if width.lanes == 40} - {40}
    np.testing.assert_array_equal(whole, opens > usual)
    assert 0 < whole.mean() < 0.1


VARIANTS = {
    "rnn": ({"variant": "rnn"}, {}),
    "rnn_concat": ({"variant": "rnn_concat"}, {"momentum": 0.2}),
    "hrnn_init": ({"variant": "hrnn_init", "feed_last_item": True}, {"bptt_steps": 2}),
    "hrnn_all": ({"variant": "hrnn_all"}, {"mean_over": "batch"}),
    "sampled": (
        {"variant": "hrnn_init", "idle_gap": True, "embedding": "tied", "residual": True},
        {"loss": "cross_entropy", "extra_negatives": 10, "log_q": True, "mean_over": "batch"},
    ),
    "softmax": ({"variant": "hrnn_init", "layers": 2}, {"loss": "full_softmax"}),
}


def trained(model_config, config, seeds, plan=None):
    """Train an epoch, with the widths of a plan or as they are chosen."""
    setup = train.make_setup(log(), model_config, config)
    schedules = [
        epoch_schedule(log(), model_config, setup.config, seed=seed, epoch=0) for seed in seeds
    ]
    states = [train.init_state(seed, model_config, config) for seed in seeds]
    state = states[0] if len(seeds) == 1 else jax.tree.map(lambda *a: np.stack(a), *states)
    with pytest.MonkeyPatch.context() as patch:
        if plan is not None:
            patch.setattr(lane_widths, "plan", plan)
        state, losses = run_epoch(state, schedules, setup, seeds=seeds, epoch=0)
    return state.params, losses


def whole(schedules, _, bptt_steps, chunk_updates):
    """Plan all lanes for all updates."""
    n = -(-max(len(schedule.event) for schedule in schedules) // bptt_steps)
    return [
        [Part(0, min(chunk_updates, n - begin), Width(BATCH, BATCH))]
        for begin in range(0, n, chunk_updates)
    ]


@pytest.mark.parametrize("name", VARIANTS)
def test_fewer_lanes_train_the_same_weights(name):
    """With dropout and drawn negatives, which depend on seed, epoch, step and lane alone.

    To rounding: sums over lanes have another order. AdaGrad's first step of a weight is its
    gradient's sign, which magnifies it.
    """
    of_model, of_training = VARIANTS[name]
    hierarchical = of_model["variant"].startswith("hrnn")
    dropouts = {"dropout_session": 0.3}
    if hierarchical:
        dropouts |= {"dropout_user": 0.2, "dropout_init": 0.2}
    model_config = ModelConfig(N_ITEMS, hidden_units=6, **of_model, **dropouts)
    config = TrainConfig(batch_size=BATCH, chunk_steps=32, **of_training)
    setup = train.make_setup(log(), model_config, config)
    schedule = epoch_schedule(log(), model_config, setup.config, seed=0, epoch=0)
    if name != "rnn":  # whose lanes are filled by many short sessions until the end
        assert {width.lanes for width in widths([schedule], config.bptt_steps)} == {8, 4}
    found, losses = trained(model_config, config, [0])
    expected, expected_losses = trained(model_config, config, [0], whole)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, expected)


def test_seeds_side_by_side_narrow_together():
    model_config = ModelConfig(N_ITEMS, hidden_units=6, dropout_session=0.3)
    config = TrainConfig(batch_size=BATCH)
    together, losses = trained(model_config, config, [0, 1])
    for number in range(2):
        alone, loss = trained(model_config, config, [number])
        np.testing.assert_allclose(losses[number], loss[0], rtol=1e-5)
        jax.tree.map(
            lambda a, b, n=number: np.testing.assert_allclose(a[n], b, atol=1e-4), together, alone
        )


def test_lanes_are_at_most_the_users():
    config = TrainConfig(batch_size=5000, loss="cross_entropy", log_q=True)
    setup = train.make_setup(log(), ModelConfig(N_ITEMS), config)
    assert setup.config.batch_size == 15
    sessions = train.make_setup(log(), ModelConfig(N_ITEMS, "rnn"), config)
    assert sessions.config.batch_size == len(np.unique(log().session))
