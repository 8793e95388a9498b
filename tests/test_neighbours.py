"""The nearest of the last item are counted as by hand, and mixed as probabilities are."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrnn_jax import errors, evaluation, lanes, model, neighbours, training
from tests import logs, small, weights

K = 6


def config(**settings):
    return small.model_config(**{"neighbours": K, **settings})


def full_softmax(**settings):
    return small.training_config(loss="full_softmax", **settings)


def cosine(sessions, i, j):
    """Sessions with both / sqrt(sessions with i * sessions with j)."""
    has_i, has_j = ([item in session for session in sessions] for item in (i, j))
    both = sum(a and b for a, b in zip(has_i, has_j, strict=True))
    return both / np.sqrt(sum(has_i) * sum(has_j)) if both else 0.0


def sessions_of(log):
    return [set(log.item[log.session == session].tolist()) for session in np.unique(log.session)]


def test_the_table_is_counted_as_by_hand():
    log = small.log().train
    table, sessions = neighbours.count(log, K), sessions_of(log)
    for i in range(log.n_items):
        all_ = {j: cosine(sessions, i, j) for j in range(log.n_items) if j != i}
        best = sorted((j for j in all_ if all_[j]), key=lambda j: (-all_[j], j))[:K]
        there = table.item[i] != lanes.NO_ITEM
        assert set(table.item[i][there]) == set(best)
        for j, value in zip(table.item[i][there], table.cosine[i][there], strict=True):
            np.testing.assert_allclose(value, all_[j], rtol=1e-6)
        assert not table.cosine[i][~there].any()
        assert table.sessions[i] == sum(i in session for session in sessions)


def test_the_session_of_the_target_is_left_out():
    """Bug: count it, and whatever follows has always been seen to follow."""
    log = small.log().train
    table = jax.device_put(neighbours.count(log, log.n_items))
    never = 0
    for event in np.flatnonzero(log.follows).tolist():
        last, target = log.item[event - 1 : event + 1].tolist()
        if last == target:  # an item is not its own neighbour
            continue
        others = sessions_of(log.where(log.session != log.session[event]))
        expected = cosine(others, last, target)
        found, known = neighbours.without_own(table, jnp.array(last), jnp.array(target))
        np.testing.assert_allclose(found * known, expected, rtol=1e-5)
        never += expected == 0
    assert never > 3


def test_without_an_item_or_a_target_nothing_is_known():
    table = jax.device_put(neighbours.count(small.log().train, K))
    last = jnp.array([lanes.NO_ITEM, 1])
    probability, known = neighbours.without_own(table, last, jnp.full(2, lanes.NO_ITEM))
    assert known[0] == 0
    assert not probability.any()
    assert neighbours.known(table, last)[0] == 0


def test_the_mixture_closed_form():
    loss, gate = np.array([0.7, 2.0, 1.0]), np.array([-1.5, 0.3, -np.inf])
    probability = np.array([0.2, 0.0, 0.4])
    share = 1 / (1 + np.exp(-gate))
    expected = -np.log((1 - share) * np.exp(-loss) + share * probability)
    found = neighbours.mixed(*map(jnp.float32, (loss, gate, probability)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    slope = jax.grad(lambda *given: neighbours.mixed(*given).sum(), argnums=(0, 1))(
        *map(jnp.float32, (loss, gate, probability))
    )
    assert np.isfinite(slope).all()
    assert slope[1][2] == 0


@pytest.mark.parametrize("loss", ["full_softmax", "cross_entropy"])
def test_the_network_learns_as_it_would_alone(loss):
    steps, log = small.epoch_steps(), small.log().train
    how = small.training_config(loss=loss, optimizer="sgd", learning_rate=0.5)
    counted = training.count(log, config(), how)
    state = small.fresh(config(), how)
    # The same weights, so those of the gate last: drawn, they would shift the others'.
    alone_params = state.params.replace(network=state.params.network.replace(neighbours=None))
    alone = training.TrainState(alone_params, training.transform(how).init(alone_params))
    mixed, _, with_table = small.train(config(), how, steps, state, counted=counted)
    plain, _, without = small.train(small.model_config(), how, steps, alone)
    gate = mixed.params.network.neighbours
    small.assert_close(
        mixed.params.replace(network=mixed.params.network.replace(neighbours=None)),
        plain.params,
        atol=1e-5,
    )
    before = state.params.network.neighbours
    assert np.all(gate.by_session != before.by_session)
    assert np.all(gate.by_user != before.by_user)
    assert gate.by_known != before.by_known
    assert not np.allclose(with_table, without)  # the loss is the mixture's


@pytest.mark.parametrize("slots", [0, 3])
@pytest.mark.parametrize("n_candidates", [None, 5])
def test_ranks_are_of_the_mixture(n_candidates, slots):
    """In float64, as probabilities of all items, whichever are ranked."""
    log, model_config = small.log(), config(past=slots)
    table = jax.device_put(neighbours.count(log.train, K))
    params = weights.drawn(model_config).replace(table=table)
    candidates = None if n_candidates is None else np.arange(n_candidates)
    found = evaluation.rank(
        params, log, model_config=model_config, candidates=candidates, cutoffs=[2]
    )
    carry = model.start((1,), model_config)
    schedule = lanes.build(log, 1)
    expected, moved = {}, 0
    for t in range(len(schedule.event)):
        now = jax.tree.map(lambda a, t=t: a[t], schedule.steps)
        x = model.inputs(params.items, now.input)
        carry, hidden = model.step(params.network, carry, x, now, config=model_config)
        scores = np.asarray(hidden @ params.items.item_out.T + params.items.item_bias[None])[0]
        scores = scores.astype(np.float64)
        if slots:
            item, bonus = (
                np.asarray(each)[0] for each in model.recall(params.network, carry, hidden)
            )
            for one, more in zip(item, bonus, strict=True):
                if one != lanes.NO_ITEM:
                    scores[one] += more
        softmax = np.exp(scores) / np.exp(scores).sum()
        last = int(now.input[0])
        cosines = np.zeros(log.n_items)
        there = np.asarray(table.item[last]) != lanes.NO_ITEM
        cosines[np.asarray(table.item[last])[there]] = np.asarray(table.cosine[last])[there]
        gate = params.network.neighbours
        value = gate.mean + hidden[0] @ gate.by_session + carry.user[0] @ gate.by_user
        value = float(value + gate.by_known * np.log1p(cosines.sum()))
        share = 1 / (1 + np.exp(-value)) if cosines.any() else 0.0
        mixed = (1 - share) * softmax
        mixed += share * cosines / max(cosines.sum(), 1e-9)
        target = log.item[schedule.event[t, 0] + 1]
        among = np.arange(log.n_items) if candidates is None else candidates
        others = among[among != target]
        case = schedule.event[t, 0] + 1
        expected[case] = 1 + int((mixed[others] >= mixed[target]).sum())
        moved += expected[case] != 1 + int((softmax[others] >= softmax[target]).sum())
    assert found.rank.tolist() == [expected[case] for case in log.cases.tolist()]
    assert moved > 5


def test_a_table_is_kept_whole_or_refused(tmp_path):
    table = neighbours.count(logs.random(1, n_items=9).train, 3)
    path = tmp_path / neighbours.FILE
    neighbours.save(path, table)
    small.assert_identical(neighbours.load(path), table)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(errors.InputError, match=neighbours.FILE):
        neighbours.load(path)
    path.unlink()
    with pytest.raises(errors.InputError, match="missing"):
        neighbours.load(path)


def test_no_neighbours_no_table():
    counted = training.count(small.log().train, small.model_config(), full_softmax())
    assert dataclasses.astuple(counted) == (None, None)
