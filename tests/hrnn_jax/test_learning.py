"""HRNN learns what only a user's history shows, up to a ceiling that is known in advance.

Each user has one of three hidden traits, each trait a permutation of the items of its own. With
probability 0.8 the next item of a session is the permutation's image of the last, else any item.
One transition says little about the trait, five sessions determine it nearly always.
"""

import functools

import numpy as np

from hrnn_jax.config import ModelConfig, TrainConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.ranking import evaluation, metrics
from hrnn_jax.training.epoch import epoch_schedule, run_epoch
from hrnn_jax.training.train import TrainSetup, init_state

N_USERS, N_SESSIONS, N_EVENTS, N_ITEMS, N_TRAITS = 12_000, 6, 4, 50, 3
P_IMAGE = 0.8
CUTOFF = 5
NOISE = 0.005  # in MRR over the 36,000 cases, about two standard errors


@functools.cache
def world():
    """Draw the permutations [traits, items] and the items [users, sessions, events]."""
    rng = np.random.default_rng(0)
    images = np.stack([rng.permutation(N_ITEMS) for _ in range(N_TRAITS)])
    trait = rng.integers(N_TRAITS, size=(N_USERS, 1))
    items = rng.integers(N_ITEMS, size=(N_USERS, N_SESSIONS, N_EVENTS))
    for e in range(1, N_EVENTS):
        follows = rng.random((N_USERS, N_SESSIONS)) < P_IMAGE
        items[:, :, e] = np.where(follows, images[trait, items[:, :, e - 1]], items[:, :, e])
    return images, items


def event_log():
    _, items = world()
    session = np.repeat(np.arange(N_USERS * N_SESSIONS, dtype=np.int32), N_EVENTS)
    return EventLog(
        user=session // N_SESSIONS,
        session=session,
        item=items.reshape(-1).astype(np.int32),
        time=60 * np.arange(len(session)),
        test=session % N_SESSIONS == N_SESSIONS - 1,
        n_items=N_ITEMS,
    )


def best_mrr(sessions):
    """Return the MRR of the best ranking of the last session, given the sessions `sessions`.

    Bayes: items in the order of their probability given the transitions seen so far.
    """
    images, items = world()
    users = np.arange(N_USERS)
    posterior = np.full((N_TRAITS, N_USERS), 1 / N_TRAITS)
    ranks = []
    for s in [*sessions, N_SESSIONS - 1]:
        for e in range(1, N_EVENTS):
            last, item = items[:, s, e - 1], items[:, s, e]
            next_item = np.full((N_TRAITS, N_USERS, N_ITEMS), (1 - P_IMAGE) / N_ITEMS)
            for trait, image in enumerate(images):
                next_item[trait, users, image[last]] += P_IMAGE
            if s == N_SESSIONS - 1:
                chance = (posterior[:, :, None] * next_item).sum(axis=0)
                order = np.argsort(-chance, axis=1, kind="stable")
                ranks.append(1 + np.argmax(order == item[:, None], axis=1))
            posterior *= next_item[:, users, item]
            posterior /= posterior.sum(axis=0)
    return metrics.summarise(np.concatenate(ranks), [CUTOFF])[f"mrr@{CUTOFF}"]


def learnt_mrr(variant, *, epochs):
    """Return the MRR of a trained network on the last sessions."""
    model_config = ModelConfig(n_items=N_ITEMS, variant=variant)
    config = TrainConfig(loss="full_softmax", optimizer="adam", learning_rate=0.003, batch_size=100)
    events = event_log()
    state = init_state(0, model_config, config)
    for epoch in range(epochs):
        schedule = epoch_schedule(events.train, model_config, config, seed=0, epoch=epoch)
        setup = TrainSetup(model_config, config)
        state, _ = run_epoch(state, [schedule], setup, seeds=[0], epoch=epoch)
    ranks = evaluation.rank(state.params, events, model_config=model_config).rank
    assert len(ranks) == N_USERS * (N_EVENTS - 1)
    return metrics.summarise(ranks, [CUTOFF])[f"mrr@{CUTOFF}"]


def test_the_ceilings_with_and_without_history_differ():
    session, user = best_mrr([]), best_mrr(range(N_SESSIONS - 1))
    # The best ranking with the trait known: its image first, the others in any order.
    image = P_IMAGE + (1 - P_IMAGE) / N_ITEMS
    others = sum(1 / rank for rank in range(2, CUTOFF + 1)) / (N_ITEMS - 1)
    assert abs(user - (image + (1 - image) * others)) < NOISE
    assert session < 0.69 < 0.77 < user


def test_hrnn_init_reaches_the_ceiling_with_history():
    """A user's state crosses sessions, and the weights that make and read it are trained."""
    found = learnt_mrr("hrnn_init", epochs=5)
    assert 0.77 < found < best_mrr(range(N_SESSIONS - 1)) + NOISE


def test_rnn_stays_below_the_ceiling_without_history():
    found = learnt_mrr("rnn", epochs=5)
    assert 0.6 < found < min(0.69, best_mrr([]) + NOISE)
