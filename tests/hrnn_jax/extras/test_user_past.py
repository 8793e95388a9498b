"""The past holds a user's last items, and the bonus is added to the scores of these."""

import collections
import dataclasses
import functools

import jax
import numpy as np
import pytest

from hrnn_jax import evaluation, model, train, user_batches
from hrnn_jax.extras import negatives, user_past
from hrnn_jax.user_batches import NO_EVENT, NO_ITEM, Steps
from tests.helpers import logs, networks, weights

ENTRIES = 3


def bonuses(network, carry, hidden):
    """Return the items of the past and their bonuses."""
    found = model.past_bonus(network, carry, hidden)
    assert found is not None
    return found


def expected(log, event, entries=ENTRIES):
    """Return by item how often, at which event and in which session the user of `event` had it.

    Only the last `entries` different items; a count begins anew where an item had fallen out.
    """
    had = collections.OrderedDict()
    first = np.searchsorted(log.user, log.user[event])
    for place in range(first, event + 1):
        count, *_ = had.pop(log.item[place], (0,))
        session = log.session[place] - log.session[first] + 1
        had[log.item[place]] = count + 1, place - first + 1, session
        if len(had) > entries:
            had.popitem(last=False)
    return dict(had)


@functools.partial(jax.jit, static_argnames="entries")
def replayed(steps, entries):
    """Return the pasts after each step, packed: [T, B, R + 1, 4]."""

    def body(found, steps):
        found = user_past.step(found, steps)
        return found, user_past.pack(found)

    return jax.lax.scan(body, user_past.start(steps.input.shape[1:], entries), steps)[1]


@pytest.mark.parametrize("feed_last_item", [False, True])
def test_the_past_holds_what_counting_by_hand_gives(feed_last_item):
    log = logs.random(5, users=9, sessions=5, events=6, n_items=6)
    schedule = user_batches.build(
        log, 4, rng=np.random.default_rng(0), feed_last_item=feed_last_item
    )
    n_steps = len(schedule.event) + 3  # padding, which changes nothing
    steps = user_batches.pad(schedule.steps, n_steps, schedule.steps.opening.shape[1])
    found = np.asarray(replayed(steps, ENTRIES))
    lost = 0
    for t, lane in np.argwhere(schedule.event != NO_EVENT).tolist():
        event = schedule.event[t, lane]
        entries = {item: tuple(rest) for item, *rest in found[t, lane, 1:].tolist()}
        entries.pop(NO_ITEM, None)
        assert entries == expected(log, event)
        lost += len(expected(log, event, 99)) > ENTRIES
    assert lost > 20
    np.testing.assert_array_equal(found[-1], found[-3])


def test_unpack_inverts_pack():
    packed = np.arange(2 * 4 * 4, dtype=np.int32).reshape(2, 4, 4)
    packed[:, 0, 2:] = 0
    np.testing.assert_array_equal(user_past.pack(user_past.unpack(packed)), packed)


def test_features_have_the_stated_values():
    [described] = user_past.features(
        user_past.Past(
            item=np.array([[7, 8, NO_ITEM]]),
            count=np.array([[4, 1, 0]]),
            event=np.array([[10, 3, 0]]),
            session=np.array([[5, 4, 0]]),
            events=np.array([10]),
            sessions=np.array([5]),
            target=np.array([0]),
        )
    )
    np.testing.assert_allclose(
        described[:2],
        [
            [1, np.log(4), 4 / 5, 0, 1, 1, 0, 1, 0],
            [1, 0, 1 / 5, np.log(8) / 3, 1 / 8, 0, np.log(2), 0, 1],
        ],
        rtol=1e-6,
    )


def test_the_bonus_is_the_features_times_weights_of_the_state():
    rng = np.random.default_rng(0)
    packed = rng.integers(1, 9, (2, ENTRIES + 1, 4)).astype(np.int32)
    packed[:, 0] = 9  # events and sessions so far
    had = user_past.unpack(packed)
    had = dataclasses.replace(had, item=had.item.at[1, 2].set(NO_ITEM))
    hidden, user = rng.normal(size=(2, 2, 5))
    given = user_past.Weights(
        *(rng.normal(size=s) for s in [(user_past.FEATURES,), (5, 9), (5, 9)])
    )
    found = user_past.bonus(given, had, hidden, user)
    described = np.asarray(user_past.features(had))
    for lane in range(2):
        by = given.mean + hidden[lane] @ given.by_session + user[lane] @ given.by_user
        for entry in range(ENTRIES):
            if (lane, entry) != (1, 2):
                np.testing.assert_allclose(
                    found[lane, entry], described[lane, entry] @ by, rtol=1e-4
                )
    assert found[1, 2] == 0  # an empty entry


def config(**settings):
    return networks.model_config(**{"past": ENTRIES, **settings})


def full_softmax(**settings):
    return networks.training_config(loss="full_softmax", **settings)


def test_the_bonus_starts_without_effect():
    steps, how = networks.epoch_steps(), full_softmax(learning_rate=0.0)
    found, expected = (
        networks.train(one, how, steps, train.init_state(0, one, how))[2]
        for one in (config(), networks.model_config())
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("loss", ["full_softmax", "bpr_max"])
@pytest.mark.parametrize("bptt_steps", [1, 2])
def test_every_weight_of_the_bonus_learns(bptt_steps, loss):
    how = networks.training_config(loss=loss, bptt_steps=bptt_steps)
    state = train.init_state(0, config(), how)
    after, _, _ = networks.train(config(), how, networks.epoch_steps(), state)
    for leaf in jax.tree.leaves(after.params.network.past):
        assert np.all(np.asarray(leaf) != 0)


def test_the_loss_takes_scores_with_the_bonus():
    """One step, from states that have a past, by hand."""
    model_config, how = config(), full_softmax(learning_rate=0.0)
    params = weights.drawn(model_config)
    steps = networks.epoch_steps()
    carry = model.start_carry(steps.input.shape[1:], model_config)
    network = params.network
    expected = []
    for t in range(len(steps.input)):
        now = jax.tree.map(lambda a, t=t: a[t], steps)
        x = model.gather_rows(params.items.item_in, now.input)
        carry, hidden = model.step(network, carry, model.StepInputs(x, now), config=model_config)
        scores = np.array(hidden @ params.items.item_out.T + params.items.item_bias[None])
        item, bonus = bonuses(network, carry, hidden)
        for lane, entry in np.argwhere(np.asarray(item) != NO_ITEM):
            scores[lane, item[lane, entry]] += bonus[lane, entry]
        logs_ = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        valid = np.flatnonzero(now.valid)
        of_lanes = [-logs_[lane, now.target[lane]] for lane in valid]
        expected.append(np.mean(of_lanes) if len(valid) else 0.0)
    state = train.TrainState(params, train.make_optimizer(how).init(params))
    _, _, losses = networks.train(model_config, how, steps, state)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


@pytest.mark.parametrize("embedding", ["none", "separate", "tied"])
def test_a_sampled_loss_of_all_items_equals_the_full_softmax(embedding):
    """One lane, every item drawn once: the past's items are those of the step, with their bonus."""
    model_config = config(embedding=embedding)
    steps = user_batches.build(networks.log(), 1).steps
    params = weights.drawn(model_config)
    found = {}
    for loss, more in {
        "full_softmax": {},
        "cross_entropy": {
            "extra_negatives": networks.N_ITEMS,
            "negative_alpha": 0.0,
            "mask_false_negatives": True,
        },
    }.items():
        how = networks.training_config(
            loss=loss, learning_rate=0.0, batch_size=1, bptt_steps=2, **more
        )
        state = train.TrainState(params, train.make_optimizer(how).init(params))
        sampler = negatives.make_sampler(networks.log().train, how)
        even = Steps(*(array[: len(steps.input) // 2 * 2] for array in steps))
        _, _, found[loss] = networks.train(model_config, how, even, state, sampler=sampler)
    np.testing.assert_allclose(found["cross_entropy"], found["full_softmax"], rtol=2e-5)


@pytest.mark.parametrize("n_candidates", [None, 5])
def test_ranks_are_of_scores_with_the_bonus(n_candidates):
    log, model_config = networks.log(), config()
    params = weights.drawn(model_config)
    candidates = None if n_candidates is None else np.arange(n_candidates)
    found = evaluation.rank(params, log, model_config=model_config, candidates=candidates)
    carry = model.start_carry((1,), model_config)
    schedule = user_batches.build(log, 1)
    expected = {}
    for t in range(len(schedule.event)):
        now = jax.tree.map(lambda a, t=t: a[t], schedule.steps)
        x = model.gather_rows(params.items.item_in, now.input)
        carry, hidden = model.step(
            params.network, carry, model.StepInputs(x, now), config=model_config
        )
        item, bonus = bonuses(params.network, carry, hidden)
        scores = hidden @ params.items.item_out.T + params.items.item_bias[None]
        scores = np.asarray(scores.at[0, item[0]].add(bonus[0], mode="drop"))[0]
        target = log.item[schedule.event[t, 0] + 1]
        among = np.arange(log.n_items) if candidates is None else candidates
        others = among[among != target]
        expected[schedule.event[t, 0] + 1] = 1 + int((scores[others] >= scores[target]).sum())
    assert found.rank.tolist() == [expected[case] for case in log.cases.tolist()]
