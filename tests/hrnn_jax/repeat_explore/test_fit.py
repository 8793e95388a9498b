"""The mixture finds the rule that a made log follows, and bears logs that say nothing."""

import dataclasses
import math
import tracemalloc

import jax
import numpy as np
import pytest

from hrnn_jax import model, network
from hrnn_jax.config import EvaluationConfig, ModelConfig
from hrnn_jax.errors import InputError
from hrnn_jax.event_log import EventLog
from hrnn_jax.ranking import evaluation
from hrnn_jax.repeat_explore import features, fit, fit_places, neighbours, replayed
from hrnn_jax.repeat_explore.mixture import USER_INPUTS, FittedMixture
from hrnn_jax.training.held_out import HeldOut, best_epoch
from hrnn_jax.training.train import TrainState
from hrnn_jax.training.user_batches import NO_ITEM
from tests.helpers import logs, networks

V, PLACES = 200, 6
OFTEN = 0.7  # how often a user has the item before the last one again


def ruled(seed, *, users=40, sessions=6, events=12):
    """Make a log of users who have the item before the last one again, or one by chance."""
    rng = np.random.default_rng(seed)
    of_users = []
    for _ in range(users):
        had = rng.integers(V, size=2).tolist()
        while len(had) < sessions * events:
            had.append(had[-2] if rng.random() < OFTEN else int(rng.integers(V)))
        of_users.append([had[n : n + events] for n in range(0, len(had), events)])
    return logs.of(of_users, n_items=V)


@pytest.fixture(scope="module")
def learnt():
    """Return an untrained network, and the mixture that is learnt on a log with the rule."""
    config = ModelConfig(n_items=V, hidden_units=5, places=PLACES, neighbours=6)
    params = model.init_params(jax.random.key(0), config)
    log = ruled(0)
    table = neighbours.count(log.train, config.neighbours)
    weights = fit.fit(replayed.Reader(params, table), log, model_config=config, seed=0)
    return params, config, FittedMixture(weights, table)


def test_it_finds_how_often_and_what_users_repeat(learnt):
    """On other users: the probability of all places, and of the item before the last one."""
    params, config, mixture = learnt
    log = ruled(1)
    items, scores = evaluation.best(params, log, V, model_config=config, mixture=mixture)
    probability = np.zeros((len(items), V))
    np.put_along_axis(probability, items, np.exp(np.float64(scores)), axis=1)
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-4)
    repeats, before_last = [], []
    for row, case in zip(probability, log.cases.tolist(), strict=True):
        had = log.item[log.user == log.user[case]][: np.sum(log.user[:case] == log.user[case])]
        places = list(dict.fromkeys(had[::-1].tolist()))[:PLACES]
        repeats.append(row[places].sum())
        before_last.append(row[had[-2]])
    by_chance = (1 - OFTEN) * PLACES / V
    assert np.mean(repeats) == pytest.approx(OFTEN + by_chance, abs=0.05)
    assert np.mean(before_last) == pytest.approx(OFTEN, abs=0.06)
    assert np.quantile(before_last, 0.05) > 0.5


def test_the_same_seed_learns_the_same_weights(learnt):
    params, config, mixture = learnt
    reader = replayed.Reader(params, mixture.table)
    again = fit.fit(reader, ruled(0), model_config=config, seed=0)
    networks.assert_identical(again, mixture.weights)
    kept = fit.fit(reader, ruled(0), model_config=config, seed=0, place=again.place)
    networks.assert_identical(kept, again)


def test_half_of_the_place_network_does_not_read_how_many_users_had_an_item(learnt):
    _, _, mixture = learnt
    reads = np.any(mixture.weights.place.hidden_w[features.OF_USERS], axis=0)
    half = len(reads) // 2
    assert not reads[:half].any()
    assert reads[half:].all()


def seen(n, n_places):
    """Return what was known before n events, drawn."""
    rng = np.random.default_rng(0)
    shape = n, features.PLACE_FEATURES, n_places
    return replayed.Seen(
        *[np.zeros(n, np.int32)] * 5,
        allowed=rng.random((n, n_places)) < 0.4,
        places=rng.normal(3, 2, shape).astype(np.float32),
        user=rng.normal(-1, 4, (n, features.USER_FEATURES)).astype(np.float32),
        last=np.zeros((n, 1), np.int32),
        hidden=np.zeros((n, 1), np.float32),
    )


def test_the_place_network_is_given_means_and_variances_of_the_allowed_places():
    some = seen(30, 8)
    event, place = np.nonzero(some.allowed)
    rows = np.column_stack([some.places[event, :, place], some.user[event][:, USER_INPUTS]])
    mean, variance = fit_places._moments(some)
    np.testing.assert_allclose(mean, rows.mean(axis=0, dtype=np.float64), rtol=1e-5)
    np.testing.assert_allclose(variance, rows.var(axis=0, dtype=np.float64), rtol=1e-5)


def test_they_take_less_memory_than_the_features():
    """Bug: square the differences of all features at once, five times the features' memory."""
    some = seen(2_000, 64)
    tracemalloc.start()
    try:
        fit_places._moments(some)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < some.places.nbytes


def test_whether_others_return_says_nothing_of_the_user_s_own_events():
    """Bug: before a training event, count its user among those who had the item again."""
    train = [[[0, 1, 0], [2]], [[0, 1], [0, 1]], [[2]]]
    # By user and item, of the other users who had it in training: all, and those more than once.
    others = [{0: (1, 1), 1: (1, 1), 2: (1, 0)}, {0: (1, 1), 1: (1, 0)}, {2: (1, 0)}]
    log = logs.of([[*sessions, [1, 1, 1]] for sessions in train], n_items=4)
    log = dataclasses.replace(log, test=log.in_last_session)
    event = np.flatnonzero(~log.test)
    item = [[*others[user], *[NO_ITEM] * (4 - len(others[user]))] for user in log.user[event]]
    before = seen(len(event), 4)._replace(event=event, item=np.array(item, np.int32))
    for user, row in zip(log.user[event], fit._log_returns(log, before), strict=True):
        expected = [math.log((returned + 0.5) / (n + 2)) for n, returned in others[user].values()]
        np.testing.assert_allclose(row[: len(expected)], expected, rtol=1e-6)


CONFIG = networks.model_config(places=4, neighbours=6)
DEGENERATE = {  # each user's last session is the test; of the others the last one is held out
    "one user": [[[1, 2, 1], [2, 3, 2, 1], [1, 3]]],
    "one user of one session": [[[1, 2, 1], [1, 3]]],
    "one training session each": [[[1, 2], [2, 3]], [[3, 4, 5], [5, 1]]],
    "no repeat": [[[1, 2], [3, 4], [5, 6]], [[5, 6], [7, 8], [3, 4]], [[7, 8], [1, 2], [5, 6]]],
    "nothing but repeats": [[[1, 1, 1], [1, 1], [1, 1]], [[1, 1], [1, 1, 1], [1, 1]]],
    "held-out items are new": [[[1, 2], [3, 4], [1, 2]], [[2, 1], [5, 6], [2, 1]]],
    "more places than items": [[[0, 1, 2], [2, 1, 0], [0, 1, 2]], [[2, 1], [0, 1, 2], [2, 0]]],
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_a_log_that_says_nothing_gives_probabilities_all_the_same(name):
    log = logs.of(DEGENERATE[name], n_items=networks.N_ITEMS)
    how = networks.training_config(loss="full_softmax")
    made = network.make_network(log, CONFIG, how, EvaluationConfig())
    mixture = HeldOut(made, None, 0).mixture(0)
    for leaf in jax.tree.leaves(mixture):
        assert np.isfinite(leaf).all()
    params = made.init_state(0).params
    fitted = network.fitted(made, mixture)
    _, scores = evaluation.best(params, log, networks.N_ITEMS, model_config=CONFIG, mixture=fitted)
    np.testing.assert_allclose(np.exp(np.float64(scores)).sum(axis=1), 1, rtol=1e-4)
    assert not np.isnan(scores).any()


@pytest.mark.parametrize(
    "users",
    [DEGENERATE["one training session each"], [[[1], [2], [3]], [[3], [1], [2]]]],
    ids=["no case", "no event follows another"],
)
def test_without_held_out_cases_a_further_epochs_mixture_is_learnt_too(users):
    """Bug: replay no events at all, once the place network is learnt."""
    log = logs.of(users, n_items=networks.N_ITEMS)
    how = networks.training_config(loss="full_softmax", held_out_patience=1)
    made = network.make_network(log, CONFIG, how, EvaluationConfig())
    held = HeldOut(made, None, 0)
    networks.assert_identical(held.mixture(0), held.mixture(0))


def test_all_epochs_are_trained_where_no_event_can_be_held_out():
    """Bug: stop after the first, as all scores are 0."""
    log = logs.of([[[1, 2], [3, 4, 5]], [[6, 7], [8, 9]]], n_items=networks.N_ITEMS)
    how = networks.training_config(loss="full_softmax", held_out_patience=1)
    made = network.make_network(log, CONFIG, how, EvaluationConfig())
    assert HeldOut(made, None, 0).choose_epochs(3) == (3, None, ())


def test_held_out_events_are_ranked_among_all_items_however_test_cases_are():
    """Bug: choose another number of epochs with other flags of the ranking."""
    how = networks.training_config(loss="full_softmax", held_out_patience=1)
    asked = EvaluationConfig(candidates=2, exclude_session_items=True, ties="for", lanes=8)
    made = network.make_network(networks.log(), CONFIG, how, asked)
    held = HeldOut(made, None, 0).network.evaluation_config
    assert held == EvaluationConfig(lanes=8)


def test_whether_repeats_are_dropped_is_seen_of_enough_sessions(monkeypatch):
    monkeypatch.setattr(fit, "_ENOUGH", 6)
    without = [[[1, 2, 3], [2, 3, 1], [1, 2]], [[4, 5], [5, 4], [4, 5]]]
    assert fit._drops_repeats(logs.of(without))
    assert not fit._drops_repeats(logs.of(without[:1]))  # too few to tell
    assert not fit._drops_repeats(logs.of([*without, [[3, 3]]]))


@pytest.mark.parametrize("variant", ["hrnn_init", "rnn_concat"])
def test_users_of_sessions_without_repeats_repeat_items_of_other_sessions(variant, monkeypatch):
    """Bug: take RNN Concat's one long session for such a session, so that nothing is repeated."""
    monkeypatch.setattr(fit, "_ENOUGH", 6)
    rng = np.random.default_rng(0)
    log = logs.of([[rng.permutation(4).tolist() for _ in range(5)] for _ in range(6)], n_items=12)
    config = networks.model_config(variant, places=4, neighbours=6)
    made = network.make_network(log, config, networks.training_config(), EvaluationConfig())
    mixture = HeldOut(made, None, 0).mixture(0)
    assert bool(mixture.drops_repeats) == (variant == "hrnn_init")
    items, scores = evaluation.best(
        made.init_state(0).params,
        log,
        12,
        model_config=config,
        mixture=network.fitted(made, mixture),
    )
    for row, case in enumerate(log.cases.tolist()):
        begin = case - np.argmin(log.follows[case::-1])
        own = log.item[begin:case]
        of = dict(zip(items[row].tolist(), scores[row].tolist(), strict=True))
        assert of[log.item[case]] > -np.inf
        if variant == "hrnn_init":
            assert all(of[item] == -np.inf for item in own.tolist())


def held_out_by_hand(log):
    """Return for each training event whether it is held out, without those that are left out."""
    rows = [
        (user, session, item)
        for user, session, item, test in zip(log.user, log.session, log.item, log.test, strict=True)
        if not test
    ]
    sessions = {}
    for user, session, _ in rows:
        sessions.setdefault(user, []).append(session)
    last = {of_user[-1] for of_user in sessions.values() if len(set(of_user)) > 1}
    kept_items = {item for _, session, item in rows if session not in last}
    return [
        (user, session, item, session in last)
        for user, session, item in rows
        if session not in last or item in kept_items
    ]


@pytest.mark.parametrize("seed", range(4))
def test_each_users_last_training_session_is_held_out(seed):
    log = logs.random(seed, users=12, sessions=4, n_items=30)
    found = log.held_out()
    rows = [found.user, found.session, found.item, found.test]
    assert list(zip(*(row.tolist() for row in rows), strict=True)) == held_out_by_hand(log)
    assert found.n_items == log.n_items
    assert 0 < found.test.sum() < len(found)
    assert len(found) < len(log.train)  # some are left out


def test_a_log_without_events_holds_nothing_out():
    log = logs.random(0)
    assert len(log.where(np.zeros(len(log), bool)).held_out()) == 0


def trained_on(log):
    """Return the weights after an epoch of the network without the held-out sessions, its table."""
    made = network.make_network(
        log, CONFIG, networks.training_config(loss="full_softmax"), EvaluationConfig()
    )
    states: list[TrainState] = []

    def train_epoch(*given):
        done = network.ONE_DEVICE.train_epoch(*given)
        states.append(jax.tree.map(np.array, done.state))
        return done

    held = HeldOut(made, None, 0)
    mixture = held.mixture(1, train_epoch)
    assert len(states) == 1
    return states[0], held.network.table, mixture


def test_nothing_of_a_held_out_session_reaches_the_network_or_the_table():
    """Bug: count the neighbours, or draw the negatives, of all training events."""
    log = networks.log()
    split = log.train.held_out()
    held = log.test | np.isin(log.session, split.session[split.test])
    # Their items, rotated within each other: those with a training event stay so.
    changed = EventLog(
        **{**vars(log), "item": np.where(held, np.flip(log.item), log.item).astype(np.int32)}
    )
    assert (changed.item != log.item).sum() > 20
    before, after = trained_on(log), trained_on(changed)
    networks.assert_identical(after[:2], before[:2])
    assert not np.array_equal(before[2].explore, after[2].explore)


def test_the_epochs_of_a_call_are_those_that_the_last_one_lacks():
    """... and what training starts from stays usable: Bug: give its memory away."""
    made = network.make_network(
        networks.log(), CONFIG, networks.training_config(loss="full_softmax"), EvaluationConfig()
    )
    numbers = []

    def train_epoch(*given):
        numbers.append(given[-1])
        return network.ONE_DEVICE.train_epoch(*given)

    start = made.init_state(5)
    held = HeldOut(made, start, 0)
    first = held.mixture(1, train_epoch)
    parts = held.mixture(2, train_epoch)
    assert numbers == [0, 1]
    whole = HeldOut(made, start, 0).mixture(2)
    networks.assert_identical(parts, whole)
    networks.assert_identical(start, made.init_state(5))
    networks.assert_identical(held.mixture(1, train_epoch), first)
    assert numbers == [0, 1, 0]


@pytest.mark.parametrize(
    ("scores", "patience", "epochs"),
    [
        ([], 0, 5),
        ([], 2, None),
        ([0.1, 0.3, 0.2], 2, None),
        ([0.1, 0.3, 0.2, 0.3], 2, 2),
        ([0.1, 0.3, 0.2, 0.4], 2, None),
        ([0.1, 0.2, 0.3, 0.4, 0.5], 2, 5),
        ([0.1, 0.2, 0.3, 0.5, 0.4], 2, 4),
        ([0.3, 0.2], 1, 1),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.5, 0.5], 2, 5),  # of a run with more epochs
    ],
)
def test_the_search_for_the_number_of_epochs_ends(scores, patience, epochs):
    assert best_epoch(scores, most=5, patience=patience) == epochs


def test_no_epoch_at_most_needs_none():
    assert best_epoch([], most=0, patience=3) == 0


def test_the_epochs_are_those_after_which_held_out_events_rank_best():
    """... with the mixture of that epoch, though the search has gone on."""
    config = networks.training_config(loss="full_softmax", held_out_patience=1, learning_rate=1.0)
    made = network.make_network(networks.log(), CONFIG, config, EvaluationConfig())
    found = HeldOut(made, None, 0).choose_epochs(6)
    alone = HeldOut(made, None, 0)
    scores = []
    state = alone.network.init_state(0)
    for epoch in range(len(found.scores)):
        state = network.ONE_DEVICE.train_epoch(alone.network, state, [0], epoch).state
        kept = jax.tree.map(np.array, state)
        mixture = alone.mixture(epoch + 1)
        ranks = network.ONE_DEVICE.rank(alone.network, kept.params, mixture).rank
        scores.append(sum(1 / rank for rank in ranks.tolist()) / len(ranks))
    np.testing.assert_allclose(found.scores, scores, rtol=1e-6)
    assert len(scores) == 6 or scores[-1] <= max(scores[:-1])
    assert found.epochs == scores.index(max(scores)) + 1
    networks.assert_identical(found.mixture, HeldOut(made, None, 0).mixture(found.epochs))


def test_patience_without_places_is_refused():
    config = networks.training_config(held_out_patience=1)
    with pytest.raises(InputError, match="`held_out_patience`=1 has no effect without `places`"):
        network.make_network(networks.log(), networks.model_config(), config, EvaluationConfig())
