"""Ranks: parity with a plain replay, the set of cases, ties, candidates, and extreme scores.

Recommendations: the items that would rank within the cutoff.
"""

import dataclasses
import functools
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrnn_jax import model
from hrnn_jax.config import NETWORKS, EvaluationConfig, ModelConfig, Ties
from hrnn_jax.ranking import evaluation, replay
from hrnn_jax.repeat_explore import history as histories
from hrnn_jax.repeat_explore import mixture as mixtures
from hrnn_jax.training import user_batches
from tests.helpers import logs, networks, reference, weights
from tests.helpers import mixtures as drawn_mixtures

N_ITEMS = 30
FORMS = [("rnn_concat", {}), *networks.FORMS]
CONFIG = EvaluationConfig(lanes=4, chunk_steps=16)


def model_config(variant="hrnn_init", **settings):
    return ModelConfig(n_items=N_ITEMS, variant=variant, hidden_units=6, **settings)


@functools.cache
def some_log():
    """Draw users of one to four sessions, a third of them without a test session."""
    log = logs.random(5, users=40, n_items=N_ITEMS)
    return dataclasses.replace(log, test=log.test & (log.user % 3 != 1))


CUTOFFS = (1, 4)
TIES = get_args(Ties)


def run(params, model_config, log=None, config=CONFIG, cutoffs=CUTOFFS, **settings):
    log = some_log() if log is None else log
    config = dataclasses.replace(config, cutoffs=tuple(cutoffs))
    return evaluation.rank(params, log, model_config=model_config, config=config, **settings)


def ranked(*args, **settings):
    return run(*args, **settings).rank


def by_reference(params, model_config, log=None, *, ties="against", feed_last_item=False):
    """Return {case: rank} of a replay in float64."""
    log = some_log() if log is None else log
    variant = model_config.variant
    cases, ranks = reference.replay_ranks(
        weights.named(params),
        log.user,
        log.user if variant == "rnn_concat" else log.session,
        log.item,
        log.test,
        ties=ties,
        variant=variant.removesuffix("_concat"),
        user_input=model_config.user_input,
        leak=model_config.leak,
        feed_last_item=feed_last_item,
    )
    return dict(zip(cases.tolist(), ranks.tolist(), strict=True))


@pytest.mark.parametrize(("variant", "form"), FORMS)
def test_ranks_equal_the_reference(variant, form):
    config, log = model_config(variant, **form), some_log()
    params = weights.drawn(config)
    expected = by_reference(params, config)
    if variant == "rnn_concat":  # it also predicts a session's first event, which is no test case
        first = set(expected) - set(log.cases.tolist())
        assert first
        assert not log.follows[list(first)].any()
    found = ranked(params, config)
    np.testing.assert_array_equal(found, [expected[case] for case in log.cases])
    assert len(set(found)) > N_ITEMS // 2


def test_ranks_equal_the_reference_with_the_last_item_fed():
    config = model_config("hrnn_all")
    params = weights.drawn(config)
    found = ranked(params, dataclasses.replace(config, feed_last_item=True))
    expected = by_reference(params, config, feed_last_item=True)
    np.testing.assert_array_equal(found, list(expected.values()))
    assert (found != ranked(params, config)).any()


@pytest.mark.parametrize("form", [{}, {"places": 4, "neighbours": 5}], ids=["network", "mixture"])
def test_a_case_without_its_sessions_items_is_ranked_among_the_others(form):
    """Bug: leave out the items of the session before, or of the target's own event."""
    config, log = model_config(**form), some_log()
    params = weights.drawn(config)
    mixture = drawn_mixtures.fitted(log, config)
    left_out = dataclasses.replace(CONFIG, exclude_session_items=True)
    found = ranked(params, config, config=left_out, mixture=mixture)
    repeats = 0
    for n, case in list(enumerate(log.cases))[::12]:
        first = np.flatnonzero(log.session == log.session[case])[0]
        had = log.item[first:case]
        if log.item[case] in had:
            repeats += 1
            assert found[n] == N_ITEMS
        else:
            others = np.setdiff1d(np.arange(N_ITEMS), had)
            expected = ranked(params, config, mixture=mixture, candidates=others)
            assert found[n] == expected[n]
    assert repeats


@pytest.mark.parametrize("variant", NETWORKS)
def test_every_case_is_ranked_once_also_the_last_users(variant):
    log, config = some_log(), model_config(variant)
    assert log.cases[-1] == len(log) - 1
    done = []
    found = ranked(weights.drawn(config), config, on_cases=done.append)
    by_hand = [
        e
        for e in range(1, len(log))
        if log.test[e] and log.user[e] == log.user[e - 1] and log.session[e] == log.session[e - 1]
    ]
    assert log.cases.tolist() == by_hand
    assert len(found) == sum(done) == len(by_hand)
    assert found.min() >= 1
    assert found.max() <= N_ITEMS


@pytest.mark.parametrize(
    "config",
    [
        EvaluationConfig(),
        EvaluationConfig(lanes=1, chunk_steps=5),
        EvaluationConfig(lanes=7, chunk_steps=3, score_values=1),
        EvaluationConfig(lanes=4, chunk_steps=16, score_values=7 * N_ITEMS),
        EvaluationConfig(score_values=8 * N_ITEMS, cached_values=2 * N_ITEMS),
    ],
    ids=["default", "one lane", "one score", "four cases", "eight by two"],
)
def test_lanes_chunks_and_blocks_do_not_change_ranks(config):
    params = weights.drawn(model_config())
    found = run(params, model_config(), config=config)
    np.testing.assert_array_equal(found.rank, list(by_reference(params, model_config()).values()))
    np.testing.assert_array_equal(found.shown, run(params, model_config()).shown)
    assert found.shown.sum(axis=1).tolist() == [len(found.rank) * n for n in CUTOFFS]


@pytest.mark.parametrize(("most", "n_lanes"), [(256, 16), (12, 12)])
def test_there_are_no_more_lanes_than_end_with_the_longest_user(most, n_lanes):
    """One user has 100 inputs and 100 have 10: 11 lanes end together."""
    log = logs.of([[[0, 1] * 50 + [0]], *[[[0, 1] * 5 + [0]] for _ in range(100)]])
    found = replay._lanes(log.user, most)
    assert found == n_lanes
    assert len(user_batches.build(log, found).event) == len(user_batches.build(log, 256).event)


@pytest.mark.parametrize(("n_events", "size"), [(15, 16), (16, 32), (255, 256), (300, 256)])
def test_the_trail_is_as_long_as_the_longest_user_needs(n_events, size):
    """Bug: forget the place 0, which the first event leaves free: the last one would take it."""
    log = logs.of([[[0, 1, *[0] * (n_events - 2)]], [[0, 1]]])
    history = replay.start_history(log, (3,), PLACES)
    assert history is not None
    assert history.trail.shape == history.trail_session.shape == (3, size)


@pytest.mark.parametrize("variant", NETWORKS)
def test_the_history_changes_ranks_of_all_but_the_rnn(variant):
    config, log = model_config(variant), some_log()
    params = weights.drawn(config)
    moved = np.where(log.test, log.item, (log.item + 1) % N_ITEMS).astype(np.int32)
    other = dataclasses.replace(log, item=moved)
    same = (ranked(params, config) == ranked(params, config, other)).all()
    assert same == (variant == "rnn")


def with_items(params, **tables):
    return params.replace(items=params.items.replace(**tables))


def test_ties_count_for_or_against_the_target():
    """Ten items score exactly 0.5: five more than the target's are above it, or none."""
    config, log = model_config(), some_log()
    alike = np.arange(N_ITEMS) % 3 == 0
    params = weights.drawn(config)
    params = with_items(
        params,
        item_out=jnp.where(alike[:, None], 0.0, params.items.item_out),
        item_bias=jnp.where(alike, 0.5, params.items.item_bias),
    )
    against, favour = (
        ranked(params, config, config=dataclasses.replace(CONFIG, ties=ties)) for ties in TIES
    )
    is_alike = alike[log.item[log.cases]]
    assert 0 < is_alike.sum() < len(is_alike)
    np.testing.assert_array_equal(against - favour, np.where(is_alike, alike.sum() - 1, 0))
    for ties, found in zip(TIES, (against, favour), strict=True):
        expected = by_reference(params, config, ties=ties)
        np.testing.assert_array_equal(found, list(expected.values()))


def test_two_items_of_equal_weights_tie():
    """Whatever the state: the two ways to count ties differ by the target's one twin."""
    config, log = model_config(), some_log()
    params = weights.drawn(config)
    twin = np.arange(N_ITEMS) // 2 * 2
    params = with_items(
        params, item_out=params.items.item_out[twin], item_bias=params.items.item_bias[twin]
    )
    against, favour = (
        ranked(params, config, config=dataclasses.replace(CONFIG, ties=ties)) for ties in TIES
    )
    assert len(against) == len(log.cases)
    np.testing.assert_array_equal(against - favour, 1)


def test_only_the_candidates_and_the_target_are_ranked():
    """As if the scores of all other items were very low."""
    config, log = model_config(), some_log()
    params = weights.drawn(config)
    candidates = np.random.default_rng(0).permutation(N_ITEMS)[:11].astype(np.int32)
    found = ranked(params, config, candidates=candidates)
    targets = log.item[log.cases]
    assert 0 < np.isin(targets, candidates).sum() < len(targets)
    for target in np.unique(targets):
        ranked_items = np.isin(np.arange(N_ITEMS), [*candidates, target])
        bias = jnp.where(ranked_items, params.items.item_bias, -1e9)
        expected = by_reference(with_items(params, item_bias=bias), config)
        for case in np.flatnonzero(targets == target):
            assert found[case] == expected[log.cases[case]]


def test_all_items_as_candidates_change_nothing():
    config = model_config()
    params = weights.drawn(config)
    reversed_items = np.arange(N_ITEMS, dtype=np.int32)[::-1]
    for found, expected in zip(
        dataclasses.astuple(run(params, config, candidates=reversed_items)),
        dataclasses.astuple(run(params, config)),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("candidates", [None, list(range(28, 2, -2))], ids=["all", "even"])
def test_items_are_recommended_that_would_rank_within_the_cutoff(candidates):
    """Test sessions of two items each: another target changes only its own rank."""
    config, log = model_config(), some_log()
    log = log.where(~(log.test & log.follows & np.roll(log.follows, 1)))
    params = weights.drawn(config)
    candidates = None if candidates is None else np.array(candidates, np.int32)
    cutoffs = [4, 1, 100]
    expected = np.zeros((len(cutoffs), N_ITEMS), np.int64)
    for item in range(N_ITEMS) if candidates is None else candidates:
        targets = np.where(log.test & log.follows, item, log.item).astype(np.int32)
        ranks = ranked(
            params, config, dataclasses.replace(log, item=targets), candidates=candidates
        )
        expected[:, item] = [(ranks <= cutoff).sum() for cutoff in cutoffs]
    found = run(params, config, log, cutoffs=cutoffs, candidates=candidates).shown
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found[0])) > 3


def test_of_equal_scores_the_lower_item_is_recommended():
    config = model_config()
    params = jax.tree.map(jnp.zeros_like, weights.drawn(config))
    candidates = np.array([7, 9, 3, 5], np.int32)
    for given, shown in ((None, [0, 1, 2]), (candidates, [3, 5, 7])):
        found = run(params, config, cutoffs=[3], candidates=given)
        assert np.flatnonzero(found.shown[0]).tolist() == shown


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("candidates", [None, np.arange(9, dtype=np.int32)])
def test_a_score_that_is_not_a_number_counts_against_the_model(ties, candidates):
    config, log = model_config(), some_log()
    settings = dataclasses.replace(CONFIG, ties=ties)
    params = weights.drawn(config)
    targets = log.item[log.cases]
    inside = np.isin(targets, np.arange(N_ITEMS) if candidates is None else candidates)
    n_ranked = N_ITEMS if candidates is None else len(candidates)
    last = n_ranked + ~inside

    def rank_of(params):
        return ranked(params, config, config=settings, candidates=candidates)

    nothing = jax.tree.map(lambda a: jnp.full_like(a, jnp.nan), params)
    np.testing.assert_array_equal(rank_of(nothing), last)
    # One such item is above all others, and below all as a target.
    item = 4
    bias = params.items.item_bias
    found = rank_of(with_items(params, item_bias=bias.at[item].set(jnp.nan)))
    above = rank_of(with_items(params, item_bias=bias.at[item].set(1e9)))
    assert (targets == item).any()
    np.testing.assert_array_equal(found, np.where(targets == item, last, above))


def test_scores_that_saturate_tanh_still_rank():
    """Ranks are of the scores before tanh, which is 1 in float32 from 10 on."""
    config = model_config()
    params = weights.drawn(config)
    large = with_items(
        params, item_out=params.items.item_out * 2.0**14, item_bias=params.items.item_bias * 2.0**14
    )
    assert np.mean(np.abs(np.tanh(large.items.item_bias)) == 1) > 0.9
    np.testing.assert_array_equal(ranked(large, config), ranked(params, config))


def test_a_log_without_cases_has_no_ranks():
    log = logs.of([[[1, 2], [3]], [[4]]], n_items=N_ITEMS)
    for variant in NETWORKS:
        config = model_config(variant)
        found = run(weights.drawn(config), config, log)
        assert found.rank.shape == (0,)
        assert not found.shown.any()


PLACES = model_config(places=4, neighbours=6)


def replayed_probabilities(params, mixture, log):
    """Return {event: probabilities of all items} of each event that follows another one.

    Users one after another in one lane, and the mixture in float64.
    """
    assert mixture is not None
    schedule = user_batches.build(log, 1)
    minute = (log.time // 60).astype(np.int32)[schedule.event]

    @jax.jit
    def step(states, now, minute):
        carry, history = states
        x = model.item_inputs(params.items, now.input)
        carry, hidden = model.step(params.network, carry, model.StepInputs(x, now), config=PLACES)
        history = histories.step(history, now, minute)
        terms = mixtures.terms(mixture.weights, mixture.table, history)
        scores = hidden @ params.items.item_out.T + params.items.item_bias[None]
        of_user = jax.tree.map(lambda values: values[0], terms)
        return (carry, history), (scores[0], of_user)

    states = model.start_carry((1,), PLACES), histories.start((1,), PLACES.places)
    states, found = jax.tree.map(jnp.asarray, states), {}
    for t, [event] in enumerate(schedule.event.tolist()):
        now = jax.tree.map(lambda values, t=t: values[t], schedule.steps)
        states, (scores, terms) = step(states, now, minute[t])
        found[event + 1] = drawn_mixtures.probabilities(
            mixture.weights, scores, jax.device_get(terms)
        )
    return found


@pytest.fixture(scope="module", params=[False, True], ids=["", "drops_repeats"])
def mixed(request):
    """Return weights of a network and a mixture, and the probabilities before each test case."""
    params, log = weights.drawn(PLACES), some_log()
    mixture = drawn_mixtures.fitted(log, PLACES, drops_repeats=request.param)
    found = replayed_probabilities(params, mixture, log)
    return params, mixture, np.stack([found[case] for case in log.cases.tolist()])


@pytest.mark.parametrize(("n_candidates", "ties"), [(None, "against"), (9, "against"), (9, "for")])
def test_ranks_are_of_the_probabilities_of_a_mixture(mixed, n_candidates, ties):
    """Candidates compete for the ranks alone: the probabilities stay those of all items.

    An item that cannot be next competes still, as an item of probability 0. Bug: count the items
    that do not compete above it.
    """
    params, mixture, probabilities = mixed
    candidates = np.arange(N_ITEMS) if n_candidates is None else np.arange(0, N_ITEMS, 3)[:9]
    given = {} if n_candidates is None else {"candidates": candidates}
    config = dataclasses.replace(CONFIG, ties=ties, score_values=70)
    found = run(params, PLACES, config=config, cutoffs=(4,), mixture=mixture, **given)
    target = some_log().item[some_log().cases]
    rows = np.arange(len(target))
    own = probabilities[rows, target][:, None]
    above = probabilities >= own * (1 - 1e-9) if ties == "against" else probabilities > own
    above[rows, target] = False
    np.testing.assert_array_equal(found.rank, 1 + above[:, candidates].sum(axis=1))
    order = np.argsort(-probabilities[:, candidates], axis=1, kind="stable")
    shown = np.bincount(candidates[order[:, :4]].reshape(-1), minlength=N_ITEMS)
    np.testing.assert_array_equal(found.shown[0], shown)
    impossible = (own == 0).sum()
    assert (impossible > 0) == bool(mixture.weights.drops_repeats)


def test_lists_hold_the_logarithms_of_a_mixtures_probabilities(mixed):
    params, mixture, probabilities = mixed
    items, scores = evaluation.best(
        params, some_log(), N_ITEMS, model_config=PLACES, mixture=mixture, config=CONFIG
    )
    found = np.zeros_like(probabilities)
    np.put_along_axis(found, items, np.exp(np.float64(scores)), axis=1)
    np.testing.assert_allclose(found, probabilities, rtol=2e-5)
    assert (np.diff(found[np.arange(len(items))[:, None], items], axis=1) <= 0).all()


@pytest.mark.parametrize("variant", ["rnn", "hrnn_init"])
def test_the_last_event_of_a_session_is_ranked_alike_if_the_others_are_trained_on(variant):
    """Bug: replay for RNN the held-out events of the session alone."""
    config, log = model_config(variant), some_log()
    params = weights.drawn(config)
    is_last = np.append(log.session[1:] != log.session[:-1], True)
    left_out = dataclasses.replace(log, test=log.test & is_last)
    assert 0 < len(left_out.cases) < len(log.cases)
    expected = ranked(params, config)[np.isin(log.cases, left_out.cases)]
    np.testing.assert_array_equal(ranked(params, config, left_out), expected)
    asked = dataclasses.replace(log, target=is_last)
    np.testing.assert_array_equal(ranked(params, config, asked), expected)
