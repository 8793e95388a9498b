"""What the index finds are the best items, with exact scores; what a mixture adds is not lost."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest

from hrnn_jax import errors
from hrnn_jax.live import batched_model, item_index
from hrnn_jax.live.batched_model import BatchedModel
from hrnn_jax.live.events import Event
from hrnn_jax.live.item_index import ItemIndex
from hrnn_jax.model import Items
from hrnn_jax.training.user_batches import NO_ITEM
from tests.helpers import live_users, logs, mixtures, weights

pytest.importorskip("faiss")
H = 8
FORMS = [
    ("rnn", {}),
    ("hrnn_all", {"embedding": "tied"}),
    ("hrnn_init", {"places": 4, "neighbours": 5}),
]


def catalogue(n_items, *, topics=20, seed=0):
    """Return items that are near some topics, and the topics."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 1, (topics, H))
    near = centres[rng.integers(topics, size=n_items)] + rng.normal(0, 0.3, (n_items, H))
    out, bias = jnp.asarray(near, jnp.float32), jnp.asarray(rng.normal(0, 5, n_items), jnp.float32)
    return Items(item_in=out, item_out=out, item_bias=bias), centres.astype(np.float32)


def exact(items, hidden, count):
    scores = hidden @ np.asarray(items.item_out).T + np.asarray(items.item_bias)
    return np.argsort(-scores, axis=1, kind="stable")[:, :count], -np.sort(-scores, axis=1)


def recall(found, best):
    return np.mean([np.isin(some, each).mean() for each, some in zip(found, best, strict=True)])


def test_most_of_the_best_items_are_found_by_scoring_few():
    """Bug: search without the bias, which every item has beside its vector."""
    items, topics = catalogue(20_000)
    rng = np.random.default_rng(1)
    hidden = (topics + rng.normal(0, 0.3, topics.shape)).astype(np.float32)
    counts = []
    index = ItemIndex(items, None, topics, on_items=counts.append)
    assert sum(counts) == 20_000
    assert index.scored < 5_000
    assert index.recall >= item_index.RECALL
    found, scores = index.best(hidden, None, 10)
    best, of_best = exact(items, hidden, 10)
    assert recall(found, best) >= 0.98
    own = (hidden[:, None] * np.asarray(items.item_out)[found]).sum(axis=2)
    np.testing.assert_allclose(scores, own + np.asarray(items.item_bias)[found], atol=1e-4)
    assert (np.diff(scores, axis=1) <= 0).all()
    np.testing.assert_allclose(scores[:, 0], of_best[:, 0], atol=1e-4)
    longer, _ = index.best(hidden, None, 128)
    assert recall(longer, exact(items, hidden, 128)[0]) >= 0.98


def test_fewer_items_than_asked_for_are_padded():
    items, topics = catalogue(5)
    index = ItemIndex(items, None, topics)
    found, scores = index.best(topics, None, 8)
    assert (found[:, 5:] == NO_ITEM).all()
    assert (scores[:, 5:] == -np.inf).all()
    assert (np.sort(found[:, :5], axis=1) == np.arange(5)).all()


def test_as_many_items_are_scored_as_the_recall_needs(monkeypatch):
    """Bug: a fixed number, which finds too few where many items are nearly as good."""
    items, _ = catalogue(4_000)
    hidden = np.random.default_rng(0).normal(0, 1, (64, H)).astype(np.float32)
    monkeypatch.setattr(item_index, "_FEWEST", 10)
    scored = []
    for least in (0.3, 0.99, 1.0):
        monkeypatch.setattr(item_index, "RECALL", least)
        index = ItemIndex(items, None, hidden)
        assert recall(index.best(hidden, None, 10)[0], exact(items, hidden, 10)[0]) >= least
        scored.append(index.scored)
    assert scored[0] < scored[1] <= scored[2]


@pytest.mark.parametrize(("variant", "network"), FORMS)
def test_lists_are_those_of_all_scores_whatever_is_excluded(variant, network, monkeypatch):
    """Bug: leave the places of a history, or the neighbours, to the index."""
    monkeypatch.setattr(item_index, "RECALL", 2)  # score all items: nothing is approximate
    for name, only in (("LIST_LENGTHS", (16,)), ("WIDTHS", (1,)), ("SCORED_WIDTHS", (2,))):
        monkeypatch.setattr(batched_model, name, only)  # fewer programs to compile
    log = logs.random(3, users=20, sessions=5, n_items=live_users.N_ITEMS)
    mixture = mixtures.fitted(log, live_users.config(variant, **network))
    made = functools.partial(
        live_users.recommender, variant=variant, network=network, mixture=mixture
    )
    with made() as all_scores, made(keep={"index": "faiss"}) as indexed:
        assert indexed.index.scored >= live_users.N_ITEMS
        items = np.random.default_rng(0).integers(live_users.N_ITEMS, size=30)
        for n, item in enumerate(items):
            event = Event(f"i{item}", f"u{n % 3}", live_users.NOW + 60.0 * n)
            assert all_scores.observe_many([event]) == indexed.observe_many([event])
        for asked in (
            {"k": 3},
            {"k": 3, "exclude_seen": True},
            {"k": 5, "exclude": [f"i{n}" for n in range(9)]},
            {"k": 4, "candidates": ["i3", "i4", "i5", "i6", "none"], "exclude": ["i3"]},
            {"k": 40},
        ):
            for user in ("u0", "u1", "u2", "nobody"):
                wanted = all_scores.recommend(user, **asked)
                given = indexed.recommend(user, **asked)
                assert [item for item, _ in given] == [item for item, _ in wanted]
                assert dict(given) == pytest.approx(dict(wanted), abs=2e-5)


def test_the_probability_of_what_was_not_looked_at_is_estimated(monkeypatch):
    """Bug: leave it out, so that what was found seems likelier than a repeat."""
    monkeypatch.setattr(item_index, "_SAMPLE", 1_000)
    log = logs.random(3, users=20, sessions=5, n_items=5_000)
    config = dataclasses.replace(live_users.config(places=4, neighbours=5), n_items=5_000)
    mixture = mixtures.fitted(log, config)
    params = weights.drawn(config)
    states = [BatchedModel(params, config, mixture).start._replace(item=7)]
    (items, scores), (found, given) = (
        BatchedModel(params, config, mixture, make_index=make).best(states, 16)
        for make in (None, ItemIndex)
    )
    of_all = dict(zip(items[0].tolist(), scores[0].tolist(), strict=True))
    of_index = dict(zip(found[0].tolist(), given[0].tolist(), strict=True))
    common = of_all.keys() & of_index.keys()
    assert len(common) >= 12
    assert [of_index[item] for item in common] == pytest.approx(
        [of_all[item] for item in common], abs=0.1
    )


def test_neighbours_are_listed_whatever_their_rough_scores_are(monkeypatch):
    """Bug: leave them to the index, which does not know of their bonuses."""
    monkeypatch.setattr(item_index, "RECALL", 0)
    monkeypatch.setattr(item_index, "_FEWEST", 1)
    log = logs.random(3, users=20, sessions=5, n_items=2_000)
    config = dataclasses.replace(live_users.config(places=4, neighbours=5), n_items=2_000)
    mixture = mixtures.fitted(log, config)
    explore = mixture.weights.explore.at[1:].set(2.0)
    mixture = dataclasses.replace(
        mixture, weights=dataclasses.replace(mixture.weights, explore=explore)
    )
    params = weights.drawn(config)
    indexed = BatchedModel(params, config, mixture, make_index=ItemIndex)
    last = int(np.flatnonzero(np.asarray(mixture.table.item)[:, -1] != NO_ITEM)[0])
    past = indexed.with_waiting(indexed.start.past, live_users.NOW, opens=True)
    found, _ = indexed.best([indexed.start._replace(item=last, past=past)], 16)
    assert {*np.asarray(mixture.table.item)[last].tolist()} <= {*found[0].tolist()}


def test_a_mixture_that_prefers_low_scores_is_refused_in_a_line():
    mixture = mixtures.drawn()
    mixture = dataclasses.replace(mixture, explore=mixture.explore.at[0].set(-0.5))
    items, topics = catalogue(50)
    with pytest.raises(errors.InputError, match=r"weighs them by -0.5: give `index`=exact"):
        ItemIndex(items, mixture, topics)
