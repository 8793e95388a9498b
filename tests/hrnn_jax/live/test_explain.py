"""The parts of a score add up to the listed one, and each is what its name says."""

import numpy as np
import pytest

from hrnn_jax import errors
from hrnn_jax.live import batched_model, explain
from tests.helpers import live_users, logs, mixtures, weights

N = live_users.N_ITEMS
EVENTS = (1, 2, 3, 1, 4, 5, 6, 5)


def mixed(drops_repeats=False):
    network = {"places": 4, "neighbours": 6}
    log = logs.random(3, users=20, sessions=5, n_items=N)
    fitted = mixtures.fitted(log, live_users.config(**network), drops_repeats=drops_repeats)
    return live_users.recommender(
        network=network,
        mixture=fitted,
        drop_repeats=drops_repeats,
        keep={"exclude_session_items": False},
    )


def explained(recommender, items=range(N), **asked):
    state = recommender.state_after("u", **asked)
    return explain.explain(recommender.network, state, list(items))


@pytest.mark.parametrize("drops_repeats", [False, True])
def test_the_parts_of_a_mixture_add_up_to_the_listed_scores(drops_repeats, monkeypatch):
    """After each event. Bugs: leave out a bonus; take the sum over all items."""
    monkeypatch.setattr(batched_model, "WIDTHS", (1,))  # fewer programs to compile
    monkeypatch.setattr(batched_model, "SCORED_WIDTHS", (2,))
    with mixed(drops_repeats) as recommender:
        for n, event in enumerate(live_users.events(*EVENTS)):
            recommender.observe_many([event])
            listed = dict(recommender.recommend("u", N))
            found = explained(recommender)
            assert {one.item for one in found} == {*listed}
            for one in found:
                assert one.score == pytest.approx(listed[one.item], abs=2e-4)
                assert sum(one.parts.values()) == pytest.approx(one.score, abs=1e-9)
                of_last = sum(part for _, part in one.neighbours)
                assert of_last == pytest.approx(one.parts[explain.NEIGHBOURS], abs=1e-6)
                assert {item for item, _ in one.neighbours} <= {f"i{i}" for i in EVENTS[: n + 1]}
            # The probability to repeat is that of all items that would be a repeat.
            repeats = [one for one in found if explain.REPEAT in one.parts]
            total = sum(np.exp(listed[one.item]) for one in repeats)
            expected = np.exp(repeats[0].parts[explain.REPEAT]) if repeats else 0
            assert total == pytest.approx(expected, abs=1e-4)


def test_the_parts_of_a_network_are_what_it_reads_and_the_bias():
    with live_users.recommender(variant="hrnn_all") as recommender:
        recommender.observe_many(live_users.events(*EVENTS))
        listed = dict(recommender.recommend("u", N))
        bias = np.asarray(weights.drawn(live_users.config("hrnn_all")).items.item_bias)
        found = explained(recommender)
        assert {*found[0].parts} == {explain.NETWORK, explain.ITEM}
        for index, one in enumerate(found):
            assert one.score == pytest.approx(listed[one.item], abs=1e-5)
            assert one.parts[explain.ITEM] == pytest.approx(float(bias[index]))
        # Nobody's representation is zeros: the biases alone order the items.
        nobody = explain.explain(recommender.network, recommender.state_after("nobody"), [3, 1])
        assert [(one.item, one.parts[explain.NETWORK]) for one in nobody] == [("i3", 0), ("i1", 0)]


def test_the_state_after_an_event_is_that_of_then():
    with mixed() as recommender:
        first = live_users.events(1, 2, 3)
        recommender.observe_many(first)
        then = explained(recommender)
        recommender.observe_many(live_users.events(4, 5, time=live_users.NOW + 9 * live_users.GAP))
        assert explained(recommender, event=(0, 2)) == then
        assert explained(recommender, event=(1, 1)) == explained(recommender) != then
        for event in ((0, 3), (2, 0), (0, -1)):
            with pytest.raises(errors.InputError, match=r"no event .* is stored"):
                explained(recommender, event=event)


def test_the_program_of_explanations_is_among_those_of_the_start():
    """Bug: compile it while the first one waits."""
    with mixed() as recommender:
        *_, last = recommender.rare_programs()
        assert type(last()).__name__ == "Anatomy"
