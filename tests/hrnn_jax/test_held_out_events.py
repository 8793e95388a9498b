"""What predicts a case does not know its event, where the rest of the session is trained on."""

import dataclasses

import jax
import numpy as np
import pytest

from hrnn_jax import network
from hrnn_jax.baselines import by_name
from hrnn_jax.config import BASELINES, EvaluationConfig, ModelConfig, TrainConfig
from hrnn_jax.event_log import EventLog
from tests.helpers import logs

N_ITEMS = 12


def left_out(seed: int) -> EventLog:
    """Draw a log whose users' last events are held out, of items drawn by the seed."""
    log = logs.random(3, n_items=N_ITEMS)
    is_last = np.append(log.user[1:] != log.user[:-1], True)
    drawn = np.random.default_rng(seed).integers(N_ITEMS, size=len(log)).astype(np.int32)
    last_but_one = np.append(is_last[1:], False)
    return dataclasses.replace(
        log, test=is_last, held=last_but_one, item=np.where(is_last, drawn, log.item)
    )


@pytest.mark.parametrize("name", BASELINES)
def test_scores_of_a_model_that_counts_do_not_depend_on_held_out_items(name):
    """Bug: count all events, or compare with the whole session."""
    config = by_name.CONFIGS.get(name)
    settings = None if config is None else config()
    scores = []
    for seed in (0, 1):
        log = left_out(seed)
        score, _ = by_name.scorer(name, log, settings)
        scores.append(score(slice(0, len(log.cases))).toarray())
    assert scores[0].any()
    np.testing.assert_array_equal(*scores)


def test_what_a_network_learns_from_does_not_depend_on_held_out_items():
    """Training events, items on offer, neighbours, and what a mixture learns from."""
    found = []
    for seed in (0, 1):
        made = network.make_network(
            left_out(seed),
            ModelConfig(N_ITEMS, hidden_units=4, places=4, neighbours=3),
            TrainConfig(loss="full_softmax", negative_hours=1.0, batch_size=4),
            EvaluationConfig(),
        )
        held = made.train_log.held_out()
        assert len(held.cases)
        arrays = made.setup.sampler, made.table, vars(held), vars(made.train_log)
        found.append([np.asarray(leaf) for leaf in jax.tree.leaves(arrays)])
    assert len(found[0]) > 10
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)
