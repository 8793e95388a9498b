"""Updates by row equal optax's dense ones in the touched rows, and leave all others."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hrnn_jax import errors
from hrnn_jax.config import TrainConfig
from hrnn_jax.model import gather_rows
from hrnn_jax.training import row_optimizer
from hrnn_jax.training.user_batches import NO_ITEM

N_ITEMS, UNITS = 9, 3
WITH_MOMENTUM = ("adagrad", "sgd")
CASES = [(name, 0.0) for name in row_optimizer.OPTIMIZERS] + [(name, 0.7) for name in WITH_MOMENTUM]
TABLES = ("table", "bias")
MANY = 14  # occurrences a step, all rows among them


@functools.cache
def transform(name, momentum):
    return row_optimizer.OPTIMIZERS[name](0.1, momentum or None)


def start(name, momentum):
    rng = np.random.default_rng(0)
    shapes = {"table": (N_ITEMS, UNITS), "bias": (N_ITEMS,), "dense": (UNITS,)}
    params = {key: jnp.array(rng.normal(size=s), jnp.float32) for key, s in shapes.items()}
    return params, transform(name, momentum).init(params)


def draw(rng, index):
    """Draw the gradient of each occurrence in `index`, and of the dense weight."""
    sizes = {"table": (len(index), UNITS), "bias": (len(index),), "dense": (UNITS,)}
    return {key: rng.normal(size=size).astype(np.float32) for key, size in sizes.items()}


def update_by_row(params, state, index, grads, active, *, name, momentum, factor=1.0):
    rows, _ = row_optimizer.list_rows(index, jnp.full(N_ITEMS, 99))
    touched = row_optimizer.Touched(
        rows={"table": rows, "bias": rows, "dense": row_optimizer.WHOLE},
        values=params | {table: gather_rows(params[table], index) for table in TABLES},
        grads=grads,
    )
    chosen = row_optimizer.OPTIMIZERS[name](0.1, momentum or None, active)
    return row_optimizer.apply(chosen, params, state, touched, factor=jnp.where(active, factor, 0))


_by_row = jax.jit(update_by_row, static_argnames=("name", "momentum"))


def by_row(params, state, index, grads, active=True, **case):
    return _by_row(params, state, index, grads, active, **case)


@functools.partial(jax.jit, static_argnames=("name", "momentum"))
def dense(params, state, index, grads, *, name, momentum):
    full = {
        key: jnp.zeros_like(params[key]).at[index].add(grads[key], mode="drop") for key in TABLES
    }
    full["dense"] = grads["dense"]
    updates, state = transform(name, momentum).update(full, state, params)
    return optax.apply_updates(params, updates), state


def steps(rng, n_steps, some_rows=N_ITEMS):
    """Yield (index, gradients): every one of `some_rows` drawn rows at least once, and padding."""
    for _ in range(n_steps):
        items = rng.permutation(N_ITEMS)[:some_rows]
        again = rng.choice(items, MANY - some_rows - 2)
        index = rng.permutation(np.concatenate([items, again, [NO_ITEM] * 2]))
        yield index.astype(np.int32), draw(rng, index)


def assert_close(found, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), found, expected
    )


def assert_identical(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def table_rows(tree, rows):
    """Take `rows` of every leaf that has a row an item, whether a table or a table's state."""
    return [leaf[rows] for leaf in jax.tree.leaves(tree) if leaf.shape[:1] == (N_ITEMS,)]


@pytest.mark.parametrize(("name", "momentum"), CASES)
def test_an_update_of_all_rows_equals_the_dense_one(name, momentum):
    found = expected = start(name, momentum)
    for index, grads in steps(np.random.default_rng(1), 5):
        found = by_row(*found, index, grads, name=name, momentum=momentum)
        expected = dense(*expected, index, grads, name=name, momentum=momentum)
        assert_close(found, expected)
    before, _ = start(name, momentum)
    assert all(np.abs(found[0][key] - before[key]).min() > 0 for key in before)


@pytest.mark.parametrize("name", ["adagrad", "sgd"])
def test_an_update_of_some_rows_equals_the_dense_one_without_momentum(name):
    found = expected = start(name, 0.0)
    for index, grads in steps(np.random.default_rng(2), 6, some_rows=4):
        found = by_row(*found, index, grads, name=name, momentum=0.0)
        expected = dense(*expected, index, grads, name=name, momentum=0.0)
    assert_close(found, expected)


def warm(name, momentum):
    """Take two steps over all rows, so that no optimizer state is zero any more."""
    train = start(name, momentum)
    for index, grads in steps(np.random.default_rng(3), 2):
        train = by_row(*train, index, grads, name=name, momentum=momentum)
    return train


@pytest.mark.parametrize(("name", "momentum"), CASES)
def test_other_rows_and_their_state_do_not_change(name, momentum):
    before = warm(name, momentum)
    rng = np.random.default_rng(4)
    index = np.array([2, 5, 2, *[NO_ITEM] * (MANY - 3)], np.int32)
    after = by_row(*before, index, draw(rng, index), name=name, momentum=momentum)
    rest = np.setdiff1d(np.arange(N_ITEMS), index)
    assert_identical(table_rows(after, rest), table_rows(before, rest))
    for key in TABLES:
        assert (after[0][key] != before[0][key])[np.array([2, 5])].all()


@pytest.mark.parametrize(("name", "momentum"), CASES)
def test_padding_changes_no_row(name, momentum):
    before = start(name, momentum)
    index = np.full(MANY, NO_ITEM, np.int32)
    grads = draw(np.random.default_rng(5), index)
    after = by_row(*before, index, grads, name=name, momentum=momentum)
    assert_identical(table_rows(after, slice(None)), table_rows(before, slice(None)))
    assert (after[0]["dense"] != before[0]["dense"]).all()


@pytest.mark.parametrize(("name", "momentum"), CASES)
def test_an_inactive_update_without_gradients_changes_nothing(name, momentum):
    """Rows can be listed in a step that has nothing to learn from: inputs without a target."""
    before = warm(name, momentum)
    index, grads = next(steps(np.random.default_rng(6), 1))
    grads = jax.tree.map(np.zeros_like, grads)
    after = by_row(*before, index, grads, False, name=name, momentum=momentum)
    assert_identical(after, before)


@pytest.mark.parametrize(("name", "momentum"), CASES)
def test_rows_updated_in_parts_are_those_updated_at_once(name, momentum, monkeypatch):
    before = warm(name, momentum)
    index, grads = next(steps(np.random.default_rng(7), 1))
    expected = by_row(*before, index, grads, name=name, momentum=momentum)
    monkeypatch.setattr(row_optimizer, "_PART", 4)  # four parts of 14 rows, of which two overlap
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    in_parts = jax.jit(functools.partial(update_by_row, name=name, momentum=momentum))
    assert "while" in in_parts.lower(*before, index, grads, True).as_text()
    assert_close(in_parts(*before, index, grads, True), expected)


@pytest.mark.parametrize("n_parts", [1, 2, 4, 5])
def test_the_parts_have_each_row_once(n_parts):
    lengths = {"long": 14, "short": 3, "single": 1}  # shorter ones than there are parts, too
    rows = {
        key: row_optimizer.Rows(index=jnp.arange(n) + 20, place=jnp.arange(n))
        for key, n in lengths.items()
    }
    values = {key: jnp.arange(n) + 20.0 for key, n in lengths.items()}
    touched = row_optimizer.Touched(rows=rows, values=values, grads=values)
    found = {key: [] for key in rows}
    for number in range(n_parts):
        part = row_optimizer._part(touched, values, jnp.array(number), n_parts)
        for key in rows:
            listed = np.asarray(part.rows[key].index) != NO_ITEM
            found[key] += part.values[key][listed].tolist()
            np.testing.assert_array_equal(part.rows[key].index[listed], part.values[key][listed])
    assert found == {key: value.tolist() for key, value in values.items()}


def test_list_rows_lists_each_item_once():
    index = np.array([4, NO_ITEM, 7, 4, 0, NO_ITEM, 7, 7], np.int32)
    rows, _ = row_optimizer.list_rows(jnp.array(index), jnp.full(N_ITEMS, 99))
    listed = np.asarray(rows.index)
    assert sorted(listed[listed != NO_ITEM]) == [0, 4, 7]
    # Where an item's gradients are summed is where it is listed.
    np.testing.assert_array_equal(np.append(listed, NO_ITEM)[rows.place], index)


def test_the_factor_scales_the_step():
    before = warm("adagrad", 0.0)
    index, grads = next(steps(np.random.default_rng(9), 1))
    moved = [
        by_row(*before, index, grads, name="adagrad", momentum=0.0, factor=factor)[0]
        for factor in (1.0, 0.25)
    ]
    whole, quarter = (jax.tree.map(lambda a, b: a - b, m, before[0]) for m in moved)
    assert_close(quarter, jax.tree.map(lambda a: a / 4, whole))


def test_the_inverse_root_is_that_of_numpy():
    """Each of Newton's steps rounds three times, so a few units in the last place of 6e-8."""
    x = np.geomspace(1e-6, 1e12, 100_000).astype(np.float32)
    found = np.asarray(row_optimizer._inverse_root(jnp.asarray(x)), np.float64)
    np.testing.assert_allclose(found, 1 / np.sqrt(x.astype(np.float64)), rtol=2.4e-7)


def test_adam_equals_that_of_optax():
    rng = np.random.default_rng(5)
    params = expected = jnp.array(rng.normal(size=40), jnp.float32)
    fast, slow = row_optimizer.adam(0.01), optax.adam(0.01)
    state, expected_state = fast.init(params), slow.init(expected)
    for step in range(30):
        grads = jnp.array(rng.normal(size=40) * 10.0 ** rng.integers(-9, 1, 40), jnp.float32)
        grads = grads.at[step % 40].set(0)
        updates, state = fast.update(grads, state)
        expected_updates, expected_state = slow.update(grads, expected_state)
        # Where a mean gradient cancels, what is left is rounding of steps of up to 0.01.
        np.testing.assert_allclose(updates, expected_updates, rtol=2e-5, atol=3e-9)
    assert_close(state, expected_state)


def test_adagrad_equals_its_formula():
    """acc from 0, eps = 1e-6 inside the root; classical momentum, not Nesterov's."""
    grads = np.array([[0.5, -2.0, 1e-4], [1.0, 0.3, 2e-3], [-0.25, 0.1, -1e-3]])
    for momentum in (0.0, 0.8):
        weight = np.array([1.0, 2.0, 3.0])
        acc, velocity = np.zeros(3), np.zeros(3)
        params = jnp.array(weight, jnp.float32)
        chosen = row_optimizer.adagrad(0.1, momentum or None)
        state = chosen.init(params)
        for grad in grads:
            acc += grad**2
            velocity = momentum * velocity - 0.1 * grad / np.sqrt(acc + 1e-6)
            weight += velocity
            updates, state = chosen.update(jnp.array(grad, jnp.float32), state, params)
            params = optax.apply_updates(params, updates)
            np.testing.assert_allclose(params, weight, rtol=2e-6)


def test_momentum_repeats_a_part_of_the_last_step():
    """With a zero gradient a weight moves by momentum times its last step."""
    chosen, params = row_optimizer.OPTIMIZERS["sgd"](0.1, 0.6), jnp.zeros(2)
    first, state = chosen.update(jnp.array([1.0, -3.0]), chosen.init(params), params)
    second, _ = chosen.update(jnp.zeros(2), state, params)
    assert jnp.all(jnp.asarray(first) != 0)
    np.testing.assert_allclose(second, 0.6 * jnp.asarray(first), rtol=1e-6)


def test_momentum_of_an_optimizer_without_it_is_refused():
    with pytest.raises(errors.InputError, match=r"`momentum`=0\.5 .*`optimizer`=adagrad or sgd"):
        TrainConfig(optimizer="adam", momentum=0.5)
