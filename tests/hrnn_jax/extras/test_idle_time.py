"""The idle time before an event as an input: its classes, and how the network uses them."""

import dataclasses

import jax
import numpy as np
import pytest

from hrnn_jax import model
from hrnn_jax.extras import idle_time
from hrnn_jax.training import train, user_batches
from tests.helpers import logs, networks, weights

HOUR = 3600


@pytest.mark.parametrize(
    ("seconds", "octave"),
    [(-5, 0), (0, 0), (0.9, 0), (1, 1), (2, 1), (3, 2), (6, 2), (7, 3), (2**40, 31)],
)
def test_a_gap_has_the_class_of_its_octave(seconds, octave):
    assert idle_time.of(seconds, False) == octave
    assert idle_time.of(seconds, True) == 32 + octave


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("hrnn_init", [idle_time.NONE, 5, 4, 32 + 11, 0, idle_time.NONE, 10]),
        ("rnn_concat", [idle_time.NONE, 5, 4, 11, 0, idle_time.NONE, 10]),
        ("rnn", [idle_time.NONE, 5, 4, idle_time.NONE, 0, idle_time.NONE, 10]),
    ],
)
def test_the_gaps_of_a_log_have_the_classes_computed_by_hand(variant, expected):
    log = logs.of([[[1, 2, 3], [4, 5]], [[6, 7]]])
    log = dataclasses.replace(log, time=np.array([100, 140, 160, 160 + HOUR, 3760, 9, 9 + 1023]))
    np.testing.assert_array_equal(idle_time.before(user_batches.layout(log, variant)), expected)


def test_a_step_adds_the_row_of_the_class_to_the_input():
    config = networks.model_config("hrnn_all", idle_gap=True)
    params = weights.drawn(config)
    plain = dataclasses.replace(params.network, gap_w=None)
    steps = jax.tree.map(lambda a: a[9], networks.epoch_steps())
    steps = steps._replace(gap=np.array([3, idle_time.NONE, 40, 63], np.int8))
    x = np.array(model.item_inputs(params.items, steps.input))
    carry = jax.tree.map(np.asarray, model.start_carry((networks.BATCH,), config))
    found, hidden = model.step(params.network, carry, model.StepInputs(x, steps), config=config)
    x[[0, 2, 3]] += params.network.gap_w[np.array([3, 40, 63])]
    expected, expected_hidden = model.step(plain, carry, model.StepInputs(x, steps), config=config)
    np.testing.assert_array_equal(hidden, expected_hidden)
    networks.assert_close(found, expected)


def test_only_rows_of_classes_that_occur_learn():
    config, how = networks.model_config(idle_gap=True), networks.training_config()
    steps = networks.epoch_steps()
    gap = np.random.default_rng(0).integers(idle_time.NONE + 1, size=steps.gap.shape)
    steps = steps._replace(gap=gap.astype(np.int8))
    before = train.init_state(0, config, how)
    assert not before.params.network.gap_w.any()
    state, _, _ = networks.train(config, how, steps, before)
    has_negatives = steps.valid & (steps.valid.sum(axis=1) > 1)[:, None]
    seen = np.unique(steps.gap[has_negatives])
    learnt = np.flatnonzero(np.asarray(state.params.network.gap_w).any(axis=1))
    assert learnt.tolist() == seen[seen != idle_time.NONE].tolist()
