"""One update, the scan over them, the axis of seeds: parity, what is absent, and what it costs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrnn_jax import errors, lanes, losses, model, training
from tests import logs, reference, weights

N_ITEMS, BATCH, N_STEPS = 12, 4, 32
FORMS = [("rnn", "full"), ("hrnn_init", "full"), ("hrnn_all", "full"), ("hrnn_all", "gates")]
PLACE = np.zeros(3, np.uint32)


def model_config(variant="hrnn_init", **settings):
    return model.Config(n_items=N_ITEMS, variant=variant, hidden_units=5, **settings)


def training_config(**settings):
    return training.Config(**{"batch_size": BATCH, **settings})


def fresh(model_config, config, seed=0):
    """Return a state of large drawn weights."""
    params = weights.drawn(model_config, seed=seed)
    return training.TrainState(params, training.transform(config).init(params))


@functools.cache
def chunk(model_config, config):
    """Jit `train_chunk`, keeping what it is given."""
    return jax.jit(
        functools.partial(training.train_chunk, model_config=model_config, config=config)
    )


@functools.cache
def small_log():
    return logs.random(0, users=10, n_items=N_ITEMS)


@functools.cache
def epoch_steps(variant="hrnn_init", *, feed_last_item=False):
    """Lay out an epoch, of equal shape in all tests, so that they share what is compiled."""
    log, rng = lanes.layout(small_log(), variant), np.random.default_rng(0)
    steps = lanes.build(log, BATCH, rng=rng, feed_last_item=feed_last_item).steps
    return lanes.pad(steps, N_STEPS, 8)


def start(config, batch_size=BATCH):
    return model.start((batch_size,), config)


def train(model_config, config, steps, state=None, carry=None, place=PLACE):
    """Train on steps [T, B] in one chunk; returns state, carry and losses."""
    state = fresh(model_config, config) if state is None else state
    carry = start(model_config, steps.input.shape[1]) if carry is None else carry
    return chunk(model_config, config)(state, carry, steps, place)


def one_step(steps, t):
    return lanes.Steps(*(array[t : t + 1] for array in steps))


def assert_close(found, expected, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol), found, expected)


def assert_identical(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def by_reference(model_config, config, steps, params):
    return reference.train_steps(
        weights.named(params),
        *(np.where(items == lanes.NO_ITEM, reference.NO_ITEM, items) for items in steps[:2]),
        *steps[2:5],
        variant=model_config.variant.removesuffix("_concat"),
        user_input=model_config.user_input,
        learning_rate=config.learning_rate,
        momentum=config.momentum,
        loss=config.loss,
    )


def assert_parity(model_config, config, steps):
    params = weights.drawn(model_config)
    state, _, found = train(model_config, config, steps)
    expected = by_reference(model_config, config, steps, params)
    np.testing.assert_allclose(found, expected["loss"], rtol=0, atol=5e-6)
    accumulators = weights.named(state.opt_state[0].sum_of_squares)
    for name, value in weights.named(state.params).items():
        np.testing.assert_allclose(value, expected["weights"][name], atol=1e-4, err_msg=name)
        np.testing.assert_allclose(
            accumulators[name], expected["accumulators"][name], rtol=1e-3, atol=1e-6, err_msg=name
        )


# Parity with the reference.


@pytest.mark.parametrize(
    ("variant", "user_input", "loss"),
    [
        *((*form, "top1") for form in [*FORMS, ("rnn_concat", "full")]),
        ("hrnn_all", "full", "bpr"),
        ("hrnn_all", "full", "cross_entropy"),
    ],
)
def test_training_is_the_reference(variant, user_input, loss):
    steps = epoch_steps(variant)
    inputs = [list(items[valid]) for items, valid in zip(steps.input, steps.valid, strict=True)]
    assert any(len(set(items)) < len(items) for items in inputs)  # an item twice in a batch
    assert not steps.valid.all()  # and lanes that ran out of users
    assert_parity(
        model_config(variant, user_input=user_input),
        training_config(loss=loss, momentum=0.3),
        steps,
    )


@pytest.mark.parametrize("momentum", [0.0, 0.3])
def test_training_is_the_reference_with_the_last_item_fed(momentum):
    steps = epoch_steps(feed_last_item=True)
    fed = steps.input != lanes.NO_ITEM
    assert (fed & ~steps.valid).any()
    assert (fed.any(axis=1) & ~steps.valid.any(axis=1)).any()  # and a step of nothing else
    assert_parity(model_config("hrnn_all"), training_config(momentum=momentum), steps)


# Where the gradient goes.


@pytest.mark.parametrize(("variant", "user_input"), FORMS)
def test_every_weight_learns_from_one_step_windows(variant, user_input):
    """Eq. 3 and 4 run in the step that opens a session, so that its loss reaches them."""
    config = model_config(variant, user_input=user_input)
    state, _, _ = train(config, training_config(momentum=0.3), epoch_steps(variant))
    before = weights.named(weights.drawn(config))
    for name, value in weights.named(state.params).items():
        moved = value != before[name]
        if name == "user_to_session_w" and user_input == "gates":
            moved = moved[:, moved.shape[1] // 3 :]
        assert moved.mean() > 0.9, name


def hand_unrolled(config, carry, steps, loss, *, stop):
    """Loss of a window as a function of the dense weights, in a Python loop."""

    def loss_of(params):
        state, total = carry, 0.0
        for t in range(len(steps.input)):
            now = jax.tree.map(lambda array, t=t: array[t], steps)
            if stop:
                state = jax.lax.stop_gradient(state)
            x = model.rows(params.items.item_in, now.input)
            state, hidden = model.step(params.network, state, x, now, config=config)
            item_out = model.rows(params.items.item_out, now.target)
            item_bias = model.rows(params.items.item_bias, now.target)
            scores = hidden @ item_out.T + item_bias[None]
            total += losses.SAMPLED[loss](scores, now.valid).sum()
        return total / steps.valid.sum()

    return loss_of


def window(n_steps):
    """Take the last steps that are not yet padding for all, and a carry that is not zero."""
    steps = epoch_steps()
    end = int(np.flatnonzero(steps.valid.sum(axis=1) >= 2)[-1]) + 1
    rng = np.random.default_rng(1)
    carry = jax.tree.map(
        lambda a: rng.uniform(-0.9, 0.9, a.shape).astype(np.float32), start(model_config())
    )
    steps = lanes.Steps(*(array[end - n_steps : end] for array in steps))
    assert (steps.session_start & ~steps.user_start).any()
    assert not steps.valid.all()
    return steps, carry


@pytest.mark.parametrize("n_steps", [1, 4])
def test_gradient_of_a_window_is_that_of_the_loop(n_steps):
    config = model_config("hrnn_all")
    plain = training_config(loss="bpr", optimizer="sgd", learning_rate=1.0, bptt_steps=n_steps)
    steps, carry = window(n_steps)
    before = fresh(config, plain)
    state, _, [found] = train(config, plain, steps, before, carry)
    gradient = jax.tree.map(lambda a, b: a - b, before.params, state.params)

    def by_hand(stop):
        loss_of = hand_unrolled(config, carry, steps, "bpr", stop=stop)
        return jax.jit(jax.value_and_grad(loss_of))(before.params)

    loss, expected = by_hand(stop=False)
    np.testing.assert_allclose(found, loss, rtol=1e-6)
    assert_close(gradient, expected)
    if n_steps > 1:  # through the states between the steps, too
        _, stopped = by_hand(stop=True)
        difference = gradient.items.item_in - stopped.items.item_in
        assert np.abs(difference).max() > 1e-3


def test_full_softmax_is_dense_cross_entropy():
    config = model_config()
    plain = training_config(loss="full_softmax", optimizer="sgd", learning_rate=1.0)
    steps, carry = window(1)
    before = fresh(config, plain)
    state, _, [found] = train(config, plain, steps, before, carry)
    now = jax.tree.map(lambda array: array[0], steps)

    def loss_of(params):
        x = model.rows(params.items.item_in, now.input)
        _, hidden = model.step(params.network, carry, x, now, config=config)
        scores = hidden @ params.items.item_out.T + params.items.item_bias[None]
        lane = np.flatnonzero(now.valid)
        return -jax.nn.log_softmax(scores)[lane, now.target[lane]].mean()

    loss, expected = jax.jit(jax.value_and_grad(loss_of))(before.params)
    np.testing.assert_allclose(found, loss, rtol=1e-6)
    gradient = jax.tree.map(lambda a, b: a - b, before.params, state.params)
    assert_close(gradient, expected)
    assert (gradient.items.item_out != 0).all()
    assert (gradient.items.item_bias != 0).all()


# Padding equals absence.


@pytest.mark.parametrize(
    "settings",
    [
        training_config(momentum=0.3),
        training_config(loss="cross_entropy", optimizer="adam"),
        training_config(loss="full_softmax", optimizer="adam"),
    ],
    ids=["top1", "cross_entropy", "full_softmax"],
)
@pytest.mark.parametrize("fed", [False, True])
def test_nothing_is_learnt_from_a_step_without_a_target(settings, fed):
    config = model_config("hrnn_all")
    steps = epoch_steps()
    state, carry, _ = train(config, settings, one_step(steps, 0))
    empty = one_step(steps, N_STEPS - 1)
    if fed:  # as at the ends of sessions, with feed_last_item
        empty = empty._replace(input=steps.input[:1])
    after, _, [found] = train(config, settings, empty, state, carry)
    assert found == 0
    assert_identical(after, state)


def widened(steps, n_lanes):
    """Add lanes of padding."""
    n = steps.input.shape[1]
    empty = lanes.Steps(lanes.NO_ITEM, lanes.NO_ITEM, False, False, False, 0)
    more = [
        np.pad(array, ((0, 0), (0, n_lanes)), constant_values=value)
        for array, value in zip(steps[:-1], empty[:-1], strict=True)
    ]
    return lanes.Steps(*more, np.where(steps.opening == n, n + n_lanes, steps.opening))


@pytest.mark.parametrize("loss", ["top1", "full_softmax"])
def test_padding_is_absence(loss):
    """More lanes, steps and openings change nothing; Adam counts its steps."""
    config = model_config("hrnn_all")
    settings = training_config(loss=loss, optimizer="adam", learning_rate=0.01)
    steps = epoch_steps()
    n_steps = int(steps.valid.any(axis=1).sum())  # all that is not padding
    steps = lanes.Steps(*(array[:n_steps] for array in steps))
    state, _, expected = train(config, settings, steps)
    padded = lanes.pad(widened(steps, 3), n_steps + 2, 16)
    padded_state, _, found = train(config, settings, padded)
    np.testing.assert_allclose(found, np.append(expected, [0, 0]), atol=1e-5)
    assert_close(padded_state, state, atol=2e-5)


@pytest.mark.parametrize("loss", losses.NAMES)
def test_a_lane_without_a_target_is_no_negative(loss):
    """Its target and its input have exactly no gradient, and the others' is as without it."""
    config = model_config()
    plain = training_config(loss=loss, optimizer="sgd", learning_rate=1.0)
    flags = [np.array([flag]) for flag in ([False] * 3, [True] * 3, [True, True, False])]
    opening = np.zeros((1, 0), np.int32)

    def step(item, target):
        items = [np.array([each], np.int32) for each in ([1, 2, item], [3, 4, target])]
        return lanes.Steps(*items, *flags, opening)

    before = fresh(config, plain)
    state, _, found = train(config, plain, step(8, 9), before)
    absent, _, expected = train(config, plain, step(lanes.NO_ITEM, lanes.NO_ITEM), before)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(state.params.items.item_in[8], before.params.items.item_in[8])
    if loss != "full_softmax":
        items, items_before = state.params.items, before.params.items
        np.testing.assert_array_equal(items.item_out[9], items_before.item_out[9])
        np.testing.assert_array_equal(items.item_bias[9], items_before.item_bias[9])
    assert_close(state, absent)


def test_lanes_may_change_places():
    config, settings = model_config("hrnn_all"), training_config()
    steps = epoch_steps()
    order = np.array([2, 0, 3, 1])
    place = np.append(np.argsort(order), BATCH)
    permuted = lanes.Steps(*(array[:, order] for array in steps[:-1]), place[steps.opening])
    permuted = permuted._replace(opening=permuted.opening.astype(np.int32))
    state, carry, expected = train(config, settings, steps)
    permuted_state, permuted_carry, found = train(config, settings, permuted)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert_close(permuted_carry, jax.tree.map(lambda a: a[order], carry), atol=1e-5)
    assert_close(permuted_state.params, state.params, atol=1e-4)


# Epochs and seeds.

DROPPING = model_config("hrnn_all", dropout_session=0.2, dropout_user=0.2, dropout_init=0.2)
CHUNKED = training_config(chunk_steps=4, momentum=0.2)


def run(
    seeds, *, model_config, config, epochs=1, begin=0, log=None, states=None, on_chunk=None
) -> tuple[training.TrainState, list]:
    """Train as the command does; returns the state and each epoch's losses."""
    log = small_log() if log is None else log
    if states is None:
        states = [training.init(seed, model_config, config) for seed in seeds]
    state = jax.tree.map(lambda *a: jnp.stack(a), *states) if len(seeds) > 1 else states[0]
    means = []
    for epoch in range(begin, begin + epochs):
        schedules = [
            training.schedule(log, model_config.variant, config, seed=seed, epoch=epoch)
            for seed in seeds
        ]
        state, mean = training.run_epoch(
            state,
            schedules,
            seeds=seeds,
            epoch=epoch,
            model_config=model_config,
            config=config,
            **({"on_chunk": on_chunk} if on_chunk else {}),
        )
        means.append(mean)
    return state, means


def test_seeds_side_by_side_are_the_seeds_alone():
    config, settings, seeds = DROPPING, CHUNKED, [0, 1, 5]
    lengths = {
        len(training.schedule(small_log(), "hrnn_all", settings, seed=seed, epoch=0).event)
        for seed in seeds
    }
    assert len(lengths) > 1
    group, group_losses = run(seeds, model_config=config, config=settings, epochs=2)
    for i, seed in enumerate(seeds):
        alone, alone_losses = run([seed], model_config=config, config=settings, epochs=2)
        assert_close(jax.tree.map(lambda a, i=i: a[i], group), alone, atol=1e-5)
        for together, single in zip(group_losses, alone_losses, strict=True):
            np.testing.assert_allclose(together[i], single[0], rtol=1e-5)


def test_a_seed_decides_the_weights_bit_for_bit():
    config, settings = DROPPING, CHUNKED
    first, again, other = (
        run([seed], model_config=config, config=settings)[0] for seed in (3, 3, 4)
    )
    assert_identical(first, again)
    drawn = [training.init(seed, config, settings).params for seed in (3, 4)]
    for states in ((first.params, other.params), drawn):
        assert np.abs(states[0].items.item_out - states[1].items.item_out).min() > 0


def test_orders_and_epochs_come_from_the_seed():
    settings = training_config()

    def order(seed, epoch):
        return training.schedule(small_log(), "rnn", settings, seed=seed, epoch=epoch).event

    np.testing.assert_array_equal(order(1, 0), order(1, 0))
    assert not np.array_equal(order(1, 0), order(1, 1))
    assert not np.array_equal(order(1, 0), order(2, 0))
    assert not np.array_equal(order(1, 0), order(0, 1))


@pytest.mark.parametrize("bptt_steps", [1, 2])
def test_dropout_is_drawn_anew(bptt_steps):
    """By step, chunk, epoch and seed, each from the numbers of them."""
    config = model_config(dropout_session=0.5)
    frozen = training_config(optimizer="sgd", learning_rate=0.0, bptt_steps=bptt_steps)
    # All steps alike: users that start with the same items, and weights that do not move.
    items = np.tile(np.arange(BATCH, dtype=np.int32), (8, 1))
    yes = np.ones_like(items, bool)
    steps = lanes.Steps(items, items + BATCH, yes, yes, yes, np.zeros((8, 0), np.int32))

    def drawn(*place, config=config):
        return train(config, frozen, steps, place=np.array(place, np.uint32))[2].tolist()

    (without,) = set(drawn(0, 0, 0, config=model_config()))
    by_place = [drawn(0, 0, 0), drawn(1, 0, 0), drawn(0, 1, 0), drawn(0, 0, 1), drawn(1, 1, 1)]
    assert drawn(0, 0, 0) == by_place[0]
    everything = sum(by_place, [without])
    assert len(set(everything)) == len(everything)


@pytest.mark.parametrize("bptt_steps", [1, 3])
def test_the_loss_of_an_epoch_is_the_mean_over_its_pairs(bptt_steps):
    config = model_config()
    settings = training_config(chunk_steps=6, bptt_steps=bptt_steps, learning_rate=0.05)
    told = []
    params = training.init(2, config, settings).params
    _, [found] = run(
        [2], model_config=config, config=settings, on_chunk=lambda *each: told.append(each)
    )
    steps = training.schedule(small_log(), "hrnn_init", settings, seed=2, epoch=0).steps
    n = steps.valid.sum(axis=1)
    assert len(set(n)) > 1  # the steps must not count alike
    assert [events for events, _ in told] == [
        n[begin : begin + 6].sum() for begin in range(0, len(n), 6)
    ]
    np.testing.assert_allclose(
        sum(events * loss for events, loss in told) / n.sum(), found, rtol=1e-6
    )
    if bptt_steps == 1:
        expected = by_reference(config, settings, steps, params)["loss"]
        np.testing.assert_allclose(found, (expected * n).sum() / n.sum(), rtol=1e-5)


def test_the_chunk_length_does_not_matter():
    """Nor do the steps that fill up the last chunk."""
    config = model_config()
    (first, first_losses), (second, second_losses) = (
        run(
            [0],
            model_config=config,
            config=training_config(chunk_steps=n, optimizer="adam", learning_rate=0.01),
        )
        for n in (3, 512)
    )
    assert_close(second, first, atol=2e-5)
    np.testing.assert_allclose(second_losses, first_losses, rtol=1e-5)


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_training_moves_nothing_between_host_and_device_unasked(seeds):
    config, settings = DROPPING, CHUNKED
    states = [training.init(seed, config, settings) for seed in seeds]
    state = jax.tree.map(lambda *a: jnp.stack(a), *states) if len(seeds) > 1 else states[0]
    schedules = [
        training.schedule(small_log(), "hrnn_init", settings, seed=seed, epoch=0) for seed in seeds
    ]
    with jax.transfer_guard("disallow"):
        training.run_epoch(
            state, schedules, seeds=seeds, epoch=0, model_config=config, config=settings
        )


@pytest.mark.parametrize("seeds", [[7], [3, 5, 7]])
def test_a_loss_that_is_no_number_stops_the_run(seeds):
    config, settings = DROPPING, CHUNKED
    steps = training.schedule(small_log(), "hrnn_init", settings, seed=7, epoch=2).steps
    # An item that is first read in the second chunk or later.
    item, step = max(
        ((i, int(np.argmax((steps.input == i).any(axis=1)))) for i in range(N_ITEMS)),
        key=lambda each: each[1],
    )
    states = [training.init(seed, config, settings) for seed in seeds]
    items = states[-1].params.items
    items = items.replace(item_in=items.item_in.at[item].set(jnp.nan))
    states[-1] = states[-1].replace(params=states[-1].params.replace(items=items))
    assert step >= CHUNKED.chunk_steps
    with pytest.raises(errors.DivergedError, match=f"seed 7 is nan in epoch 3 at step {step}$"):
        run(seeds, model_config=config, config=settings, begin=2, states=states)


# What a step costs, and where it runs.


def abstract(model_config, config, n_steps, width, seeds=None):
    """Shapes and dtypes of `train_chunk`'s arguments."""
    batch = config.batch_size
    steps = lanes.Steps(
        *(jax.ShapeDtypeStruct((n_steps, batch), dtype) for dtype in [np.int32] * 2 + [bool] * 3),
        jax.ShapeDtypeStruct((n_steps, width), np.int32),
    )
    arguments = (
        jax.eval_shape(functools.partial(training.init, 0, model_config, config)),
        jax.eval_shape(functools.partial(model.start, (batch,), model_config)),
        steps,
        jax.ShapeDtypeStruct((3,), np.uint32),
    )
    if seeds is None:
        return arguments
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((seeds, *leaf.shape), leaf.dtype), arguments
    )


@functools.cache
def memory(n_items, seeds=None):
    """What the compiled chunk takes, with Table 2's HRNN Init (small); also the state's bytes."""
    config, settings = model.Config(n_items=n_items), training.Config(momentum=0.2)
    arguments = abstract(config, settings, settings.chunk_steps, 16, seeds)
    function = training.compiled(config, settings, stacked=seeds is not None)
    state = sum(4 * leaf.size for leaf in jax.tree.leaves(arguments[0]))
    return function.lower(*arguments).compile().memory_analysis(), state


@pytest.mark.parametrize("seeds", [None, 2])
def test_tables_are_changed_in_their_place(seeds):
    """No copy of a table, nor of its optimizer state: each is 72 MB or 24 MB a seed."""
    needed, state = memory(60_000, seeds)
    assert needed.alias_size_in_bytes >= state
    assert needed.temp_size_in_bytes < 4e6


def test_the_cost_of_a_step_does_not_depend_on_the_catalogue():
    small, large = (memory(n_items)[0].temp_size_in_bytes for n_items in (1_000, 60_000))
    assert abs(large - small) < 1e4


@pytest.mark.parametrize(
    ("variant", "user_input", "loss"),
    [
        *((*form, "top1") for form in FORMS),
        *(("hrnn_all", "full", loss) for loss in losses.NAMES[1:]),
    ],
)
def test_a_chunk_exports_for_gpu_and_cpu(variant, user_input, loss):
    config = model_config(variant, user_input=user_input, dropout_session=0.1)
    settings = training_config(loss=loss, momentum=0.2)
    function = jax.jit(
        functools.partial(training.train_chunk, model_config=config, config=settings)
    )
    exported = jax.export.export(function, platforms=("cuda", "cpu"))(
        *abstract(config, settings, 3, 8)
    )
    assert exported.platforms == ("cuda", "cpu")
