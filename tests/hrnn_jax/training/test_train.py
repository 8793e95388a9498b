"""One update and the scan over updates: parity, gradients, and padding equals absence."""

import jax
import numpy as np
import pytest

from hrnn_jax import model
from hrnn_jax.config import SAMPLED_LOSSES
from hrnn_jax.errors import InputError
from hrnn_jax.extras import idle_time, negatives
from hrnn_jax.training import train, user_batches
from hrnn_jax.training.user_batches import NO_ITEM, Steps
from tests.helpers import logs, networks, weights


def assert_parity(model_config, config, steps):
    params = weights.drawn(model_config)
    state, _, found = networks.train(model_config, config, steps)
    expected = networks.by_reference(model_config, config, steps, params)
    np.testing.assert_allclose(found, expected["loss"], rtol=0, atol=5e-6)
    accumulators = weights.named(state.opt_state[0].sum_of_squares)
    for name, value in weights.named(state.params).items():
        np.testing.assert_allclose(value, expected["weights"][name], atol=1e-4, err_msg=name)
        np.testing.assert_allclose(
            accumulators[name], expected["accumulators"][name], rtol=1e-3, atol=1e-6, err_msg=name
        )


# Parity with the reference.


@pytest.mark.parametrize(
    ("variant", "form", "settings"),
    [
        *((*form, {}) for form in [*networks.FORMS, ("rnn_concat", {})]),
        ("hrnn_all", {}, {"loss": "bpr"}),
        ("hrnn_all", {}, {"loss": "cross_entropy"}),
        ("hrnn_all", {}, {"mean_over": "valid"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value.values()) or "default",
)
def test_training_equals_the_reference(variant, form, settings):
    steps = networks.epoch_steps(variant)
    inputs = [list(items[valid]) for items, valid in zip(steps.input, steps.valid, strict=True)]
    assert any(len(set(items)) < len(items) for items in inputs)  # an item twice in a batch
    assert not steps.valid.all()  # and lanes that ran out of users
    assert_parity(
        networks.model_config(variant, **form),
        networks.training_config(momentum=0.3, **settings),
        steps,
    )


@pytest.mark.parametrize("momentum", [0.0, 0.3])
def test_training_with_the_last_item_fed_equals_the_reference(momentum):
    steps = networks.epoch_steps(feed_last_item=True)
    fed = steps.input != NO_ITEM
    assert (fed & ~steps.valid).any()
    assert (fed.any(axis=1) & ~steps.valid.any(axis=1)).any()  # and a step of no other inputs
    assert_parity(
        networks.model_config("hrnn_all"), networks.training_config(momentum=momentum), steps
    )


# What the gradient reaches.


@pytest.mark.parametrize(("variant", "form"), networks.FORMS)
def test_every_weight_learns_from_one_step_windows(variant, form):
    """Eq. 3 and 4 are part of the step that opens a session, so its loss has their gradient."""
    config = networks.model_config(variant, **form)
    state, _, _ = networks.train(
        config, networks.training_config(momentum=0.3), networks.epoch_steps(variant)
    )
    before = weights.named(weights.drawn(config))
    for name, value in weights.named(state.params).items():
        moved = value != before[name]
        if name == "user_to_session_w" and config.user_input == "gates":
            moved = moved[:, moved.shape[1] // 3 :]
        assert moved.mean() > 0.9, name


def hand_unrolled(config, carry, steps, loss, *, stop):
    """Return the loss of a window as a function of the weights, by a Python loop."""

    def loss_of(params):
        state, total = carry, 0.0
        for t in range(len(steps.input)):
            now = jax.tree.map(lambda array, t=t: array[t], steps)
            if stop:
                state = jax.lax.stop_gradient(state)
            x = model.gather_rows(params.items.item_in, now.input)
            state, hidden = model.step(
                params.network, state, model.StepInputs(x, now), config=config
            )
            item_out = model.gather_rows(params.items.item_out, now.target)
            item_bias = model.gather_rows(params.items.item_bias, now.target)
            scores = hidden @ item_out.T + item_bias[None]
            total += networks.lane_losses(loss, scores, now.valid).sum()
        return total / steps.valid.sum()

    return loss_of


def window(n_steps):
    """Return the last steps with two valid lanes or more, and a carry that is not zero."""
    steps = networks.epoch_steps()
    end = int(np.flatnonzero(steps.valid.sum(axis=1) >= 2)[-1]) + 1
    rng = np.random.default_rng(1)
    carry = jax.tree.map(
        lambda a: rng.uniform(-0.9, 0.9, a.shape).astype(np.float32),
        model.start_carry((networks.BATCH,), networks.model_config()),
    )
    steps = Steps(*(array[end - n_steps : end] for array in steps))
    assert (steps.session_start & ~steps.user_start).any()
    assert not steps.valid.all()
    return steps, carry


@pytest.mark.parametrize("n_steps", [1, 4])
def test_the_gradient_of_a_window_equals_that_of_a_loop(n_steps):
    config = networks.model_config("hrnn_all")
    plain = networks.training_config(
        loss="bpr", optimizer="sgd", learning_rate=1.0, bptt_steps=n_steps, mean_over="valid"
    )
    steps, carry = window(n_steps)
    before = networks.fresh(config, plain)
    state, _, [found] = networks.train(config, plain, steps, before, carry)
    gradient = jax.tree.map(lambda a, b: a - b, before.params, state.params)

    def by_hand(stop):
        loss_of = hand_unrolled(config, carry, steps, "bpr", stop=stop)
        return jax.jit(jax.value_and_grad(loss_of))(before.params)

    loss, expected = by_hand(stop=False)
    np.testing.assert_allclose(found, loss, rtol=1e-6)
    networks.assert_close(gradient, expected)
    if n_steps > 1:  # through the states between the steps, too
        _, stopped = by_hand(stop=True)
        difference = gradient.items.item_in - stopped.items.item_in
        assert np.abs(difference).max() > 1e-3


def test_full_softmax_equals_dense_cross_entropy():
    config = networks.model_config()
    plain = networks.training_config(
        loss="full_softmax", optimizer="sgd", learning_rate=1.0, mean_over="valid"
    )
    steps, carry = window(1)
    before = networks.fresh(config, plain)
    state, _, [found] = networks.train(config, plain, steps, before, carry)
    now = jax.tree.map(lambda array: array[0], steps)

    def loss_of(params):
        x = model.gather_rows(params.items.item_in, now.input)
        _, hidden = model.step(params.network, carry, model.StepInputs(x, now), config=config)
        scores = hidden @ params.items.item_out.T + params.items.item_bias[None]
        lane = np.flatnonzero(now.valid)
        return -jax.nn.log_softmax(scores)[lane, now.target[lane]].mean()

    loss, expected = jax.jit(jax.value_and_grad(loss_of))(before.params)
    np.testing.assert_allclose(found, loss, rtol=1e-6)
    gradient = jax.tree.map(lambda a, b: a - b, before.params, state.params)
    networks.assert_close(gradient, expected)
    assert (gradient.items.item_out != 0).all()
    assert (gradient.items.item_bias != 0).all()


@pytest.mark.parametrize("loss", ["cross_entropy", "full_softmax"])
@pytest.mark.parametrize("embedding", ["separate", "tied"])
@pytest.mark.parametrize("residual", [False, True])
def test_the_gradient_of_embeddings_equals_the_dense_one(embedding, residual, loss):
    """The gradient of a tied row is the sum of those as an input and as an output row."""
    config = networks.model_config(embedding=embedding, residual=residual)
    plain = networks.training_config(
        loss=loss, optimizer="sgd", learning_rate=1.0, mean_over="valid"
    )
    steps, carry = window(1)
    before = networks.fresh(config, plain)
    state, _, [found] = networks.train(config, plain, steps, before, carry)
    now = jax.tree.map(lambda array: array[0], steps)

    def loss_of(params):
        table = params.items.item_out if embedding == "tied" else params.items.item_in
        x = model.gather_rows(table, now.input)
        _, hidden = model.step(params.network, carry, model.StepInputs(x, now), config=config)
        scores = hidden @ params.items.item_out.T + params.items.item_bias[None]
        if loss == "cross_entropy":
            scores = model.gather_rows(scores.T, now.target).T
            return networks.lane_losses(loss, scores, now.valid).sum() / now.valid.sum()
        lane = np.flatnonzero(now.valid)
        return -jax.nn.log_softmax(scores)[lane, now.target[lane]].mean()

    loss_, expected = jax.jit(jax.value_and_grad(loss_of))(before.params)
    np.testing.assert_allclose(found, loss_, rtol=1e-6)
    networks.assert_close(jax.tree.map(lambda a, b: a - b, before.params, state.params), expected)
    assert state.params.items.item_in is None or embedding == "separate"


def test_an_update_moves_targets_and_extra_negatives_alone():
    config = networks.model_config()
    settings = networks.training_config(extra_negatives=2, negative_alpha=0.0, loss="bpr_max")
    support = np.zeros(networks.N_ITEMS)
    steps = networks.one_step(networks.epoch_steps(), 3)
    support[[5, 9]] = 1
    sampler = negatives.sampler(support, n_extra=2, alpha=1.0, batch_size=networks.BATCH)
    before = networks.fresh(config, settings)
    state, _, _ = networks.train(config, settings, steps, before, sampler=sampler)
    moved = (state.params.items.item_out != before.params.items.item_out).any(axis=1)
    valid = steps.target[steps.valid]
    assert set(np.flatnonzero(moved)) == {5, 9, *valid.tolist()}


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", lambda epochs: 1.0),
        ("linear", lambda epochs: max(0, 1 - epochs / 4)),
        ("cosine", lambda epochs: (1 + np.cos(np.pi * min(1, epochs / 4))) / 2),
    ],
)
def test_the_learning_rate_follows_its_schedule(schedule, expected):
    config = networks.model_config()
    more = {} if schedule == "constant" else {"schedule_epochs": 4}
    settings = networks.training_config(
        optimizer="sgd", learning_rate=1e-3, schedule=schedule, **more
    )
    steps = networks.one_step(networks.epoch_steps(), 0)
    before = networks.fresh(config, settings)

    def moved(epoch, chunk):
        place = np.array([0, epoch, chunk, 4], np.uint32)  # a chunk is a quarter of an epoch
        state, _, _ = networks.train(config, settings, steps, before, place=place)
        return np.linalg.norm(state.params.items.item_out - before.params.items.item_out)

    full = moved(0, 2) / expected(0.5)
    for epoch, chunk in [(0, 0), (0, 1), (0, 2), (1, 0), (2, 3), (4, 0), (5, 1)]:
        epochs = epoch + chunk / 4
        np.testing.assert_allclose(
            moved(epoch, chunk), expected(epochs) * full, rtol=1e-3, atol=1e-8
        )


# Padding equals absence.


@pytest.mark.parametrize(
    "settings",
    [
        networks.training_config(momentum=0.3),
        networks.training_config(loss="cross_entropy", optimizer="adam"),
        networks.training_config(loss="full_softmax", optimizer="adam"),
    ],
    ids=["top1", "cross_entropy", "full_softmax"],
)
@pytest.mark.parametrize("fed", [False, True])
def test_a_step_without_a_target_changes_nothing(settings, fed):
    config = networks.model_config("hrnn_all")
    steps = networks.epoch_steps()
    state, carry, _ = networks.train(config, settings, networks.one_step(steps, 0))
    empty = networks.one_step(steps, networks.N_STEPS - 1)
    if fed:  # as at the ends of sessions, with feed_last_item
        empty = empty._replace(input=steps.input[:1])
    after, _, [found] = networks.train(config, settings, empty, state, carry)
    assert found == 0
    networks.assert_identical(after, state)


def widened(steps, n_lanes):
    """Add lanes of padding."""
    n = steps.input.shape[1]
    empty = Steps(NO_ITEM, NO_ITEM, False, False, False, 0, idle_time.NONE, 0)
    more = [
        np.pad(array, ((0, 0), (0, n_lanes)), constant_values=value)
        for array, value in zip(steps[:-1], empty[:-1], strict=True)
    ]
    return Steps(*more, np.where(steps.opening == n, n + n_lanes, steps.opening))


@pytest.mark.parametrize("loss", ["top1", "full_softmax"])
def test_padding_does_not_change_training(loss):
    """More lanes, steps and opening lanes change nothing, nor Adam's count of steps."""
    config = networks.model_config("hrnn_all")
    settings = networks.training_config(loss=loss, optimizer="adam", learning_rate=0.01)
    steps = networks.epoch_steps()
    n_steps = int(steps.valid.any(axis=1).sum())  # all that is not padding
    steps = Steps(*(array[:n_steps] for array in steps))
    state, _, expected = networks.train(config, settings, steps)
    padded = user_batches.pad(widened(steps, 3), n_steps + 2, 16)
    padded_state, _, found = networks.train(config, settings, padded)
    np.testing.assert_allclose(found, np.append(expected, [0, 0]), atol=1e-5)
    networks.assert_close(padded_state, state, atol=2e-5)


@pytest.mark.parametrize("loss", [*SAMPLED_LOSSES, "full_softmax"])
def test_a_lane_without_a_target_is_no_negative(loss):
    """Its target and input have exactly no gradient, and the others' does not change."""
    config = networks.model_config()
    plain = networks.training_config(
        loss=loss, optimizer="sgd", learning_rate=1.0, mean_over="valid"
    )
    flags = [np.array([flag]) for flag in ([False] * 3, [True] * 3, [True, True, False])]
    opening = np.zeros((1, 0), np.int32)

    def step(item, target):
        items = [np.array([each], np.int32) for each in ([1, 2, item], [3, 4, target])]
        return Steps(*items, *flags, *[np.zeros((1, 3), np.int8)] * 2, opening)

    before = networks.fresh(config, plain)
    state, _, found = networks.train(config, plain, step(8, 9), before)
    absent, _, expected = networks.train(config, plain, step(NO_ITEM, NO_ITEM), before)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(state.params.items.item_in[8], before.params.items.item_in[8])
    if loss != "full_softmax":
        items, items_before = state.params.items, before.params.items
        np.testing.assert_array_equal(items.item_out[9], items_before.item_out[9])
        np.testing.assert_array_equal(items.item_bias[9], items_before.item_bias[9])
    networks.assert_close(state, absent)


def test_the_order_of_lanes_does_not_change_training():
    config, settings = networks.model_config("hrnn_all"), networks.training_config()
    steps = networks.epoch_steps()
    order = np.array([2, 0, 3, 1])
    width = steps.opening.shape[1]
    place = np.append(np.argsort(order), networks.BATCH + np.arange(width)).astype(np.int32)
    opening = np.sort(place[steps.opening], axis=1)
    permuted = Steps(*(array[:, order] for array in steps[:-1]), opening)
    state, carry, expected = networks.train(config, settings, steps)
    permuted_state, permuted_carry, found = networks.train(config, settings, permuted)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    networks.assert_close(permuted_carry, jax.tree.map(lambda a: a[order], carry), atol=1e-5)
    networks.assert_close(permuted_state.params, state.params, atol=1e-4)


@pytest.mark.parametrize("n_valid", [1, networks.BATCH])
def test_mean_over_batch_gives_a_lane_the_weight_of_a_full_batch(n_valid):
    """A plain gradient step is the share of valid lanes; the reported loss is the same."""
    found = {}
    for mean_over in ("valid", "batch"):
        model_config = networks.model_config()
        config = networks.training_config(
            optimizer="sgd", learning_rate=1.0, loss="full_softmax", mean_over=mean_over
        )
        state = networks.fresh(model_config, config)
        steps = networks.one_step(networks.epoch_steps(), 0)
        left = np.arange(networks.BATCH)[None] < n_valid
        steps = steps._replace(
            valid=steps.valid & left, target=np.where(left, steps.target, NO_ITEM)
        )
        assert np.count_nonzero(steps.valid) == n_valid
        after, _, losses = networks.train(model_config, config, steps, state)
        moved = jax.tree.map(lambda new, old: new - old, after.params, state.params)
        found[mean_over] = moved, losses
    by_valid, loss = found["valid"]
    by_batch, loss_too = found["batch"]
    networks.assert_close(by_batch, jax.tree.map(lambda a: a * n_valid / networks.BATCH, by_valid))
    np.testing.assert_array_equal(loss, loss_too)
    assert np.any(np.asarray(by_batch.items.item_out) != 0)


# A log of one user.


@pytest.mark.parametrize(
    ("variant", "users", "settings"),
    [
        ("hrnn_init", [[[1, 2], [2, 3, 1], [3, 1]]], {}),
        ("rnn", [[[1, 2, 3], [3, 1]]], {"loss": "cross_entropy"}),
    ],
)
def test_a_sampled_loss_on_one_user_is_refused(variant, users, settings):
    """Bug: train on the loss of a lane that is compared with nothing, which is 0."""
    log = logs.of(users).train
    config = networks.training_config(**settings)
    model_config = networks.model_config(variant)
    with pytest.raises(InputError, match="without negatives: give `extra_negatives`"):
        train.make_setup(log, model_config, config)
    for others in ({"extra_negatives": 2}, {"loss": "full_softmax"}):
        train.make_setup(log, model_config, networks.training_config(**{**settings, **others}))
