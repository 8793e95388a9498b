"""The probabilities of a mixture: their formula in float64, what is no candidate, and its file."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrnn_jax import errors
from hrnn_jax.repeat_explore import features, neighbours
from hrnn_jax.repeat_explore import history as histories
from hrnn_jax.repeat_explore import mixture as mixtures
from hrnn_jax.training.user_batches import NO_ITEM
from tests.helpers import mixtures as drawn_mixtures
from tests.helpers import networks

V, R, NEAR, N = networks.N_ITEMS, 4, 6, 5
added, terms_of = jax.jit(histories.add), jax.jit(mixtures.terms)
CASES = {  # what of the drawn terms is changed
    "plain": {},
    "no place": {"place": NO_ITEM, "allowed": False, "gate": -np.inf},
    "none allowed": {"allowed": False, "gate": -np.inf},
    "a certain repeat": {"gate": 80.0},
    "no repeat": {"gate": -80.0},
    "no neighbour": {"neighbour": NO_ITEM},
    "one neighbour again and again": {"neighbour": 3},
}


def drawn_terms(seed=0, *, n_items=V):
    """Draw terms of N users, with an unused place, and one that is not allowed."""
    rng = np.random.default_rng(seed)
    place = np.stack([rng.permutation(n_items)[:R] for _ in range(N)]).astype(np.int32)
    place[:, 1] = NO_ITEM
    allowed = place != NO_ITEM
    allowed[:, 2] = rng.random(N) < 0.5
    near = rng.integers(n_items, size=(N, NEAR)).astype(np.int32)
    near[:, 1] = near[:, 0]  # a neighbour of two items
    near[:, 2] = NO_ITEM
    return mixtures.Terms(
        last=np.full((N, 2), NO_ITEM, np.int32),  # `neighbour` has theirs
        neighbour=near.reshape(N, 2, -1),
        bonus=np.float32(rng.normal(size=(N, NEAR))).reshape(N, 2, -1),
        place=place,
        logit=np.float32(rng.normal(size=(N, R))),
        allowed=allowed,
        gate=np.float32(rng.normal(size=N)),
    )


def scores_of(seed=0, *, n_items=V):
    return np.random.default_rng(seed).normal(0, 2, (N, n_items)).astype(np.float32)


@jax.jit
def log_probabilities(mixture, scores, column, terms):
    """Return those of N users, each column's."""
    of_user = functools.partial(mixtures.log_probabilities, mixture)
    values, constant = jax.vmap(of_user, in_axes=(0, None, 0))(scores, column, terms)
    return values + constant[:, None]


@pytest.mark.parametrize("case", CASES)
def test_probabilities_are_those_of_the_formula_and_add_up_to_one(case):
    changed = {
        name: np.full_like(getattr(drawn_terms(), name), value)
        for name, value in CASES[case].items()
    }
    terms, scores, mixture = drawn_terms(), scores_of(), drawn_mixtures.drawn()
    terms = dataclasses.replace(terms, **changed)
    item = np.random.default_rng(1).permutation(V)  # of each column
    column = np.argsort(item).astype(np.int32)
    found = np.asarray(log_probabilities(mixture, scores[:, item], column, terms))
    assert not np.isnan(found).any()
    found = np.exp(np.float64(found))[:, column]
    for user in range(N):
        of_user = jax.tree.map(lambda values, user=user: values[user], terms)
        expected = drawn_mixtures.probabilities(mixture, scores[user], of_user)
        np.testing.assert_allclose(found[user], expected, rtol=2e-5, atol=1e-12)
        used = of_user.place != NO_ITEM
        refused = of_user.place[used & ~of_user.allowed]
        assert (found[user, refused] == 0).all()
        np.testing.assert_allclose(found[user].sum(), 1, rtol=1e-5)


def test_without_places_it_is_the_softmax_of_the_exploring_scores():
    """The network's, with weight 1 and no neighbours."""
    terms, scores, mixture = drawn_terms(), scores_of(), drawn_mixtures.drawn()
    nothing = np.full_like(terms.place, NO_ITEM)
    terms = dataclasses.replace(
        terms,
        place=nothing,
        allowed=np.zeros_like(terms.allowed),
        gate=np.full_like(terms.gate, -np.inf),
        bonus=np.zeros_like(terms.bonus),
    )
    found = log_probabilities(mixture, scores, np.arange(V), terms)
    np.testing.assert_allclose(found, jax.nn.log_softmax(scores), rtol=1e-5)


def test_with_all_items_in_places_nothing_is_explored_and_nothing_is_no_number():
    terms, mixture = drawn_terms(), drawn_mixtures.drawn()
    place = np.tile(np.arange(R, dtype=np.int32), (N, 1))
    terms = dataclasses.replace(
        terms,
        place=place,
        allowed=np.ones_like(terms.allowed),
        neighbour=place[:, [[0, 0, 1], [2, 3, 3]]],
    )
    found = np.asarray(
        log_probabilities(mixture, scores_of(n_items=R), np.arange(R, dtype=np.int32), terms)
    )
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, rtol=1e-5)


def test_terms_are_of_the_last_items_and_the_allowed_places():
    """The open session has items 5, then 2, then 5; the one before has 7."""
    table = neighbours.count(networks.log().train, 3)
    history = jax.tree.map(jnp.asarray, histories.start((2,), R))
    for n, (item, opens) in enumerate([(7, True), (5, True), (2, False), (5, False)]):
        items = np.array([item, NO_ITEM])  # the second user has no event
        history = added(history, items, np.array([n, n]), np.array([opens, opens]))
    for drops_repeats in (False, True):
        mixture = drawn_mixtures.drawn(drops_repeats=drops_repeats)
        found = terms_of(mixture, table, history)
        own = dict(zip(found.place[0].tolist(), found.allowed[0].tolist(), strict=True))
        assert own == {7: True, 5: not drops_repeats, 2: not drops_repeats, NO_ITEM: False}
        bonus = np.zeros(V)
        near_and_bonus = zip(found.neighbour[0].ravel(), found.bonus[0].ravel(), strict=True)
        for near, more in near_and_bonus:
            if near != NO_ITEM:
                bonus[near] += more
        weights = np.asarray(mixture.explore[1:]).reshape(neighbours.LAGS, neighbours.SHARES)
        expected = np.zeros(V)
        for lag, last in enumerate([5, 2]):
            there = table.item[last] != NO_ITEM
            expected[table.item[last][there]] += (weights[lag] @ table.share[last])[there]
        np.testing.assert_allclose(bonus, expected, rtol=1e-5, atol=1e-6)
        gate = features.user_features(history)[0] @ mixture.gate[:-1]
        np.testing.assert_allclose(found.gate, [gate, -np.inf], rtol=1e-5)
        assert (np.asarray(found.neighbour[1]) == NO_ITEM).all()


def test_no_place_is_allowed_where_all_are_of_a_session_that_drops_repeats():
    """Bug: a probability to repeat that no item has."""
    history = jax.tree.map(jnp.asarray, histories.start((2,), R))
    for item in (4, 6):
        items, minutes = np.array([item, item]), np.array([9, 9])
        history = added(history, items, minutes, np.array([item == 4] * 2))
    mixture = drawn_mixtures.drawn(drops_repeats=True)
    found = terms_of(mixture, neighbours.count(networks.log().train, 3), history)
    assert not np.any(found.allowed)
    assert (np.asarray(found.gate) == -np.inf).all()


def test_a_saved_mixture_is_read_bit_for_bit(tmp_path):
    path = mixtures.file(tmp_path, 7)
    assert path == tmp_path / "mixture" / "seed_7.npz"
    mixture = drawn_mixtures.drawn(drops_repeats=True)
    mixtures.save(path, mixture, epochs=3)
    again = mixtures.load(path, epochs=3)
    networks.assert_identical(again, mixture)
    assert jax.tree.map(lambda a: a.dtype, again) == jax.tree.map(lambda a: a.dtype, mixture)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_that_does_not_fit_is_refused_in_one_line(tmp_path):
    path = tmp_path / "seed_0.npz"
    words = rf"^{path} is missing or damaged [^\n]*: repeat the command of the run with `resume`$"
    with pytest.raises(errors.InputError, match=words):
        mixtures.load(path, epochs=3)
    mixtures.save(path, drawn_mixtures.drawn(), epochs=3)
    with pytest.raises(errors.InputError, match=rf"^{path} is for 3 epochs, and .* has 4: .*$"):
        mixtures.load(path, epochs=4)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"no archive"):
        path.write_bytes(damaged)
        with pytest.raises(errors.InputError, match=words):
            mixtures.load(path, epochs=3)
    path.write_bytes(whole)
    with np.load(path) as file:
        values = dict(file)
    for changed in ("gate", "place_mean", "epochs"):
        np.savez(path, **{name: value for name, value in values.items() if name != changed})
        with pytest.raises(errors.InputError, match=words):
            mixtures.load(path, epochs=3)


def test_a_mixture_of_other_inputs_is_refused(tmp_path):
    """Bug: a traceback from the middle of an evaluation with a run folder of another version."""
    path = tmp_path / "seed_0.npz"
    mixtures.save(path, drawn_mixtures.drawn(), epochs=3)
    with np.load(path) as file:
        values = dict(file)
    np.savez(path, **values | {"gate": values["gate"][:-1]})
    words = rf"^{path} .*gate has 12 inputs, in this version 13.*: repeat the command of the run"
    with pytest.raises(errors.InputError, match=words):
        mixtures.load(path, epochs=3)
