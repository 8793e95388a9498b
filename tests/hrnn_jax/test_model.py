"""Eq. 1, 3, 4, 5: closed forms, resets, and where state and gradient may flow."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrnn_jax import gru, model
from hrnn_jax.config import NETWORKS, ModelConfig
from hrnn_jax.training import user_batches
from hrnn_jax.training.user_batches import NO_EVENT, Steps
from tests.helpers import logs

CONFIG = ModelConfig(n_items=40, hidden_units=6)


def unrolled(params, log, config, batch_size=3, keys=None, **build):
    """Unroll over a log: the schedule, and the representations [T, B, H]."""
    schedule = user_batches.build(user_batches.layout(log, config.variant), batch_size, **build)
    x = model.gather_rows(params.items.item_in, schedule.steps.input)
    carry = model.start_carry((batch_size,), config)
    _, hidden, *_ = model.unroll(
        params.network, carry, model.StepInputs(x, schedule.steps, keys), config=config
    )
    return schedule, np.asarray(hidden)


def with_user(params, user):
    """Return the parameters with other weights of the user GRU."""
    network = dataclasses.replace(params.network, user=user)
    return dataclasses.replace(params, network=network)


def by_event(schedule, hidden):
    """Return {event: representation after it}."""
    t, lane = np.nonzero(schedule.event != NO_EVENT)
    return dict(zip(schedule.event[t, lane].tolist(), hidden[t, lane], strict=True))


def test_the_cell_applies_the_reset_gate_before_the_recurrent_matrix():
    # One unit: r = sigmoid(1), z = sigmoid(2), candidate = tanh(0.5 + 3 r h).
    weights = gru.Recurrence(
        w_cand=jnp.array([[3.0]]), w_gates=jnp.zeros((1, 2)), b=jnp.array([0.5, 1.0, 2.0])
    )
    r, z = 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(-2))
    expected = (1 - z) * 0.25 + z * np.tanh(0.5 + 3 * r * 0.25)
    found = gru.cell(weights, jnp.zeros((1, 3)), jnp.array([[0.25]]))
    np.testing.assert_allclose(found, [[expected]], rtol=1e-6)


@pytest.mark.parametrize("variant", NETWORKS)
@pytest.mark.parametrize("layers", [1, 2])
def test_the_lane_does_not_change_a_users_states(variant, layers):
    """A user's states are the same alone, in any lane, and after or next to any other users."""
    config = dataclasses.replace(CONFIG, variant=variant, layers=layers)
    params = model.init_params(jax.random.key(1), config)
    log = logs.random(0)
    expected = by_event(*unrolled(params, log, config, batch_size=12))
    for batch_size in (1, 3, 5):
        rng = np.random.default_rng(batch_size)
        found = by_event(*unrolled(params, log, config, batch_size=batch_size, rng=rng))
        assert found.keys() == expected.keys()
        for event, state in found.items():
            np.testing.assert_allclose(state, expected[event], atol=1e-6)


def test_only_rnn_ignores_the_session_before():
    log = logs.of([[[1, 2, 3], [7, 8, 9]]])
    other = logs.of([[[4, 5, 6], [7, 8, 9]]])
    for variant, depends_on_it in {
        "rnn": False,
        "rnn_concat": True,
        "hrnn_init": True,
        "hrnn_all": True,
    }.items():
        config = dataclasses.replace(CONFIG, variant=variant, n_items=10)
        params = model.init_params(jax.random.key(0), config)
        states = [by_event(*unrolled(params, each, config))[3] for each in (log, other)]
        assert np.array_equal(*states) != depends_on_it


def test_the_first_session_starts_from_zero_and_the_next_from_eq_4():
    config = dataclasses.replace(CONFIG, n_items=10)
    params = model.init_params(jax.random.key(0), config)
    user = params.network.user
    # With b_init set, a first session that wrongly used Eq. 4 would start from tanh(b_init).
    user = dataclasses.replace(user, init_b=jnp.linspace(-1, 1, 6))
    params = with_user(params, user)
    user, [session] = params.network.user, params.network.session
    states = by_event(*unrolled(params, logs.of([[[1, 2], [3, 4]]]), config, batch_size=1))
    first = gru.cell(session, params.items.item_in[1:2], jnp.zeros((1, 6)))
    np.testing.assert_allclose(states[0], first[0], atol=1e-6)
    c = gru.cell(user.gru, first @ user.w_in, jnp.zeros((1, 6)))  # Eq. 3
    start = jnp.tanh(c @ user.init_w + user.init_b[None])  # Eq. 4
    second = gru.cell(session, params.items.item_in[3:4], start)
    np.testing.assert_allclose(states[2], second[0], atol=1e-6)


def test_feed_last_item_changes_the_next_session_alone():
    config = dataclasses.replace(CONFIG, n_items=10)
    params = model.init_params(jax.random.key(0), config)

    def states(last, feed):
        log = logs.of([[[1, 2, last], [3, 4]]])
        return by_event(*unrolled(params, log, config, batch_size=1, feed_last_item=feed))

    assert np.array_equal(states(5, False)[3], states(6, False)[3])
    assert not np.array_equal(states(5, True)[3], states(6, True)[3])
    assert np.array_equal(states(5, True)[1], states(6, True)[1])


def test_upper_layers_are_reset_by_a_new_user_alone():
    config = dataclasses.replace(CONFIG, layers=2, n_items=10)
    params = model.init_params(jax.random.key(0), config)
    one = by_event(*unrolled(params, logs.of([[[1, 2], [3, 4]], [[3, 4]]]), config, batch_size=1))
    alone = by_event(*unrolled(params, logs.of([[[3, 4]]]), config, batch_size=1))
    np.testing.assert_allclose(one[4], alone[0], atol=1e-6)  # the second user starts anew
    assert not np.allclose(one[2], alone[0])


def test_no_gradient_crosses_users():
    """The second user of a lane is exactly independent of the first one's items."""
    config = dataclasses.replace(CONFIG, n_items=10, variant="hrnn_all", layers=2)
    params = model.init_params(jax.random.key(0), config)
    schedule = user_batches.build(logs.of([[[1, 2], [3, 4, 5]], [[6, 7], [8, 9]]]), 1)
    assert schedule.event[:, 0].tolist() == [0, 2, 3, 5, 7]

    def second_user(x):
        carry = model.start_carry((1,), config)
        _, hidden, *_ = model.unroll(
            params.network, carry, model.StepInputs(x, schedule.steps), config=config
        )
        return hidden[3:].sum()

    x = model.gather_rows(params.items.item_in, schedule.steps.input)
    grad = np.asarray(jax.grad(second_user)(x))
    np.testing.assert_array_equal(grad[:3], 0)
    assert (np.abs(grad[3:]).max(axis=(1, 2)) > 0).all()


def test_user_input_gates_leaves_the_candidate_unchanged():
    full = dataclasses.replace(CONFIG, variant="hrnn_all")
    gates = dataclasses.replace(full, user_input="gates")
    params = model.init_params(jax.random.key(0), full)
    user = params.network.user
    cut = user.to_session_w[:, 6:]

    def with_(to_session_w):
        return with_user(params, dataclasses.replace(user, to_session_w=to_session_w))

    log = logs.random(2)
    _, by_gates = unrolled(with_(cut), log, gates)
    _, zeroed = unrolled(with_(user.to_session_w.at[:, :6].set(0)), log, full)
    _, used = unrolled(params, log, full)
    np.testing.assert_allclose(by_gates, zeroed, atol=1e-6)
    assert not np.allclose(by_gates, used, atol=1e-3)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_residual_adds_the_embedding_to_the_representation_and_not_to_the_states(layers):
    """Bug: feed GRU_usr, or the next step, a state with the embedding in it."""
    config = dataclasses.replace(CONFIG, embedding="separate", layers=layers)
    params = model.init_params(jax.random.key(0), config)
    log = logs.random(2)
    schedule, without = unrolled(params, log, config)
    _, found = unrolled(params, log, dataclasses.replace(config, residual=True))
    embedding = model.gather_rows(params.items.item_in, schedule.steps.input)
    np.testing.assert_array_equal(found, without + embedding)
    assert np.abs(embedding).max() > 0.1


@pytest.mark.parametrize("where", ["user", "session", "init"])
def test_dropout_changes_the_representations(where):
    config = dataclasses.replace(CONFIG, variant="hrnn_all", **{f"dropout_{where}": 0.5})
    params = model.init_params(jax.random.key(0), config)
    log = logs.random(3)
    schedule, without = unrolled(params, log, config)
    keys = jax.random.split(jax.random.key(1), len(schedule.event))
    _, dropped = unrolled(params, log, config, keys=keys)
    _, again = unrolled(params, log, config, keys=keys)
    np.testing.assert_array_equal(dropped, again)
    assert not np.allclose(dropped, without)


@pytest.mark.parametrize("layers", [1, 2])
def test_dropout_that_is_not_recurrent_leaves_the_states_as_they_are(layers):
    """Bug: drop units of the state that GRU_usr or the next step reads, which doubles the others.

    A layer above reads what is dropped, so its own states differ from those without dropout.
    """
    config = dataclasses.replace(
        CONFIG, variant="hrnn_all", layers=layers, dropout_session=0.5, recurrent_dropout=False
    )
    params = model.init_params(jax.random.key(0), config)
    log = logs.random(3)
    schedule, without = unrolled(params, log, config)
    keys = jax.random.split(jax.random.key(1), len(schedule.event))
    _, dropped = unrolled(params, log, config, keys=keys)
    kept = dropped != 0
    assert 0.3 < kept[schedule.steps.valid].mean() < 0.7
    if layers == 1:
        np.testing.assert_array_equal(dropped[kept], 2 * without[kept])
    else:
        assert not np.allclose(dropped[kept], 2 * without[kept])


def test_dropout_has_its_probability_and_keeps_the_mean():
    values = jnp.full((400, 500), 3.0)
    bits = jax.random.bits(jax.random.key(0), values.shape)
    dropped = np.asarray(model.dropout(bits, values, 0.2))
    assert abs((dropped == 0).mean() - 0.2) < 0.005
    np.testing.assert_allclose(dropped[dropped != 0], 3 / 0.8, rtol=1e-6)
    assert abs(dropped.mean() - 3) < 0.02


def test_dropout_of_user_and_init_have_different_masks():
    """Equal keys for user and init would drop the same units in both."""
    config = dataclasses.replace(CONFIG, hidden_units=200, dropout_user=0.5, dropout_init=0.5)
    params = model.init_params(jax.random.key(0), config)
    # W_init = 1, b_init = 0: a unit that only Eq. 3's mask drops starts from zero as well.
    user = dataclasses.replace(params.network.user, init_w=jnp.eye(200))
    network = dataclasses.replace(params.network, user=user)
    steps = Steps(
        *(np.array([v]) for v in (1, 2, True, False, True, 0, 0)), opening=np.array([0], np.int32)
    )
    carry = model.Carry(session=(jnp.full((1, 200), 0.5),), user=jnp.full((1, 200), 0.5))
    kept = []
    for probability in (0.0, 0.5):
        one = dataclasses.replace(config, dropout_init=probability)

        # With the update gate at 0 the state after the step is the one it started from.
        shut = dataclasses.replace(network.session[0], b=jnp.full(600, -1e9))
        after, _ = model.step(
            dataclasses.replace(network, session=(shut,)),
            carry,
            model.StepInputs(jnp.zeros((1, 600)), steps, jax.random.key(3)),
            config=one,
        )
        kept.append(np.asarray(after.session[0][0] != 0))
    assert 0.4 < kept[0].mean() < 0.6
    assert 0.15 < kept[1].mean() < 0.35


def test_weights_are_uniform_in_the_bounds_of_each_gate():
    config = ModelConfig(n_items=300, hidden_units=50, variant="hrnn_all")
    params = model.init_params(jax.random.key(0), config)
    for weights, bound in (
        (params.items.item_in, np.sqrt(6 / 350)),
        (params.items.item_out, np.sqrt(6 / 350)),
        (params.network.session[0].w_gates, np.sqrt(6 / 100)),
        (params.network.user.to_session_w, np.sqrt(6 / 100)),
    ):
        assert 0.98 * bound < np.abs(weights).max() <= bound
        np.testing.assert_allclose(np.std(weights), bound / np.sqrt(3), rtol=0.05)
    assert not np.array_equal(params.network.user.w_in, params.network.user.to_session_w)
    assert not np.any(params.items.item_bias)


@pytest.mark.parametrize("shape", [(11, 3), (12, 3), (4, 3), (40, 1), (3, 40)])
def test_weights_drawn_by_rows_equal_those_drawn_as_a_whole(shape, monkeypatch):
    monkeypatch.setattr(model, "_DRAWN_AT_ONCE", 12)  # weights: 4 rows of 3
    for seed, bound in enumerate((0.013, 1.7)):
        key = jax.random.key(seed)
        expected = jax.random.uniform(key, shape, minval=-bound, maxval=bound)
        np.testing.assert_array_equal(model.uniform(key, shape, bound), expected)


def test_drawing_a_table_takes_at_most_half_its_memory_besides():
    def draw(key):
        return model.uniform(key, (30_000, 300), 0.01)

    key = jax.random.key(0)
    taken = jax.jit(draw).lower(key).compile().memory_analysis()
    assert taken.output_size_in_bytes >= 36_000_000
    assert taken.temp_size_in_bytes < 18_000_000


def test_the_numbers_of_weights_in_a_large_table_are_those_of_64_bits():
    """Bug: number with 32 bits, so that rows of a large table repeat others."""
    row, columns = np.array([0, 1, 65_535, 65_536, 21_474_836, 2**31 - 2], np.int32), 70_001
    high, low = (np.asarray(a, np.uint64) for a in model.place_in_table(jnp.asarray(row), columns))
    expected = row.astype(np.uint64)[:, None] * np.uint64(columns) + np.arange(
        columns, dtype=np.uint64
    )
    np.testing.assert_array_equal(high * np.uint64(2**32) + low, expected)
