"""The table equals counting by hand, and scores get the bonuses that the table states."""

import collections
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrnn_jax import errors, evaluation, model, user_batches
from hrnn_jax.config import EvaluationConfig
from hrnn_jax.extras import item_neighbours, user_past
from hrnn_jax.user_batches import NO_ITEM
from tests.helpers import logs, networks, weights

K, WEIGHT = 6, 1.5


def config(**settings):
    return networks.model_config(**{"neighbours": K, "past": 4, **settings})


def sessions_of(log):
    return [log.item[log.session == session].tolist() for session in np.unique(log.session)]


def cut(row, limit):
    """Keep the largest of {item: value}, at a tie the lower item, as shares of their sum."""
    kept = sorted((j for j in row if row[j]), key=lambda j: (-row[j], j))[:limit]
    return {j: row[j] / sum(row[k] for k in kept) for j in kept}


def rules(sessions, i):
    row = collections.Counter()
    for session in sessions:
        for x, first in enumerate(session):
            for y in range(x + 1, min(x + 11, len(session))):
                row[session[y]] += (first == i) / (y - x)
    return row


def cosines(sessions, i):
    n = collections.Counter(item for session in sessions for item in set(session))
    both = collections.Counter(
        item for session in sessions if i in session for item in set(session) - {i}
    )
    return {j: both[j] / math.sqrt(n[i] * n[j]) for j in both}


@pytest.mark.parametrize("limit", [3, 100])
def test_the_table_equals_counting_by_hand(limit):
    log = networks.log().train
    table, sessions = item_neighbours.count(log, limit, WEIGHT), sessions_of(log)
    cut_off = 0
    for i in range(log.n_items):
        shares = collections.Counter()
        for row in (rules(sessions, i), cosines(sessions, i)):
            for j, share in cut(row, limit).items():
                shares[j] += share / 2
        cut_off += len(shares) > limit
        found = dict(zip(table.item[i].tolist(), table.bonus[i].tolist(), strict=True))
        assert found.pop(NO_ITEM, 0) == 0
        # Which of equal ones is cut off is a matter of rounding.
        least = sorted(shares.values(), reverse=True)[:limit][-1:]
        assert len(found) == min(limit, len(shares))
        assert all(shares[j] >= least[0] - 1e-9 for j in found)
        for j, bonus in found.items():
            assert bonus == pytest.approx(WEIGHT * math.log(1 + shares[j] / 0.001), rel=1e-5)
    assert (cut_off > 3) == (limit == 3)


def test_each_earlier_item_gives_half_the_bonus_of_the_next():
    """Bug: count a missing item as one, or the oldest as the last."""
    table = jax.device_put(item_neighbours.count(networks.log().train, K, WEIGHT))
    item, bonus = item_neighbours.bonus_after(table, jnp.array([[3, 5], [2, NO_ITEM]]))
    for row, last in enumerate([[3, 5], [2]]):
        expected = np.zeros(networks.log().n_items)
        for place, i in enumerate(last):
            there = table.item[i] != NO_ITEM
            expected[np.asarray(table.item[i])[there]] += np.asarray(table.bonus[i])[there] / (
                2**place
            )
        found = np.zeros(networks.log().n_items)
        there = np.asarray(item[row]) != NO_ITEM
        np.add.at(found, np.asarray(item[row])[there], np.asarray(bonus[row])[there])
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert not np.asarray(bonus[row])[~there].any()


def walk(log, entries):
    """Yield steps, the carry after them and what is scored, by plain steps of one lane."""
    model_config = config(past=entries)
    params = weights.drawn(model_config)
    carry, schedule = model.start_carry((1,), model_config), user_batches.build(log, 1)
    for t in range(len(schedule.event)):
        now = jax.tree.map(lambda a, t=t: a[t], schedule.steps)
        x = model.item_inputs(params.items, now.input)
        carry, hidden = model.step(
            params.network, carry, model.StepInputs(x, now), config=model_config
        )
        yield schedule.event[t, 0], params, carry, hidden


@pytest.mark.parametrize("entries", [3, 9])
def test_recent_items_are_those_of_the_open_session(entries):
    """Bug: leave the session out of account, and the items before it are among them."""
    log, shorter, again = networks.log(), 0, 0
    for event, _, carry, _ in walk(log, entries):
        begin = event - np.argmin(log.follows[event::-1])
        seen = log.item[begin : event + 1].tolist()[::-1]
        expected = list(dict.fromkeys(seen))[:4]
        found = user_past.recent_items(carry.past, 4)[0].tolist()
        assert [item for item in found if item != NO_ITEM] == expected[:entries]
        shorter += len(expected) < 4
        again += len(set(seen)) < len(seen)
    assert shorter
    assert again


@pytest.mark.parametrize(
    ("n_candidates", "settings"),
    [(None, {}), (5, {}), (None, {"lanes": 3, "chunk_steps": 5, "score_values": 70})],
    ids=["all", "five", "small chunks"],
)
def test_ranks_are_of_scores_with_both_bonuses(n_candidates, settings):
    """In float64, over all items, whichever are ranked and however much is computed at a time."""
    log, model_config = networks.log(), config()
    table = jax.device_put(item_neighbours.count(log.train, K, WEIGHT))
    candidates = None if n_candidates is None else np.arange(n_candidates)
    found = evaluation.rank(
        weights.drawn(model_config),
        log,
        model_config=model_config,
        table=table,
        config=EvaluationConfig(**settings),
        candidates=candidates,
    )
    expected, moved = {}, 0
    for event, params, carry, hidden in walk(log, model_config.past):
        scores = np.asarray(hidden @ params.items.item_out.T + params.items.item_bias[None])[0]
        scores = scores.astype(np.float64)
        recalled = model.past_bonus(params.network, carry, hidden)
        for one, more in zip(*(np.asarray(each)[0] for each in recalled), strict=True):
            if one != NO_ITEM:
                scores[one] += more
        alone = scores.copy()
        for place, last in enumerate(user_past.recent_items(carry.past, 5)[0].tolist()):
            if last == NO_ITEM:
                continue
            for one, more in zip(table.item[last].tolist(), table.bonus[last], strict=True):
                if one != NO_ITEM:
                    scores[one] += more / 2**place
        target = log.item[event + 1]
        among = np.arange(log.n_items) if candidates is None else candidates
        others = among[among != target]
        expected[event + 1] = 1 + int((scores[others] >= scores[target]).sum())
        moved += expected[event + 1] != 1 + int((alone[others] >= alone[target]).sum())
    assert found.rank.tolist() == [expected[case] for case in log.cases.tolist()]
    assert moved > 5


def test_a_saved_table_loads_and_a_damaged_one_is_refused(tmp_path):
    table = item_neighbours.count(logs.random(1, n_items=9).train, 3, WEIGHT)
    path = tmp_path / item_neighbours.FILE
    item_neighbours.save(path, table)
    networks.assert_identical(item_neighbours.load(path), table)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(errors.InputError, match=item_neighbours.FILE):
        item_neighbours.load(path)
    path.write_text("no arrays")
    with pytest.raises(errors.InputError, match="it is no file of arrays") as raised:
        item_neighbours.load(path)
    assert "unsafely" not in str(raised.value)  # as numpy advises
    path.unlink()
    with pytest.raises(errors.InputError, match="missing"):
        item_neighbours.load(path)
