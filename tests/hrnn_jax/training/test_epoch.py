"""Epochs: their order, losses and dropout, and several seeds in one program."""

import concurrent.futures
import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrnn_jax import errors
from hrnn_jax.training.epoch import _program, epoch_schedule, run_epoch
from hrnn_jax.training.lane_widths import Part, Width
from hrnn_jax.training.train import TrainSetup, TrainState, init_state, make_setup
from hrnn_jax.training.user_batches import Steps
from tests.helpers import logs, networks

DROPPING = networks.model_config(
    "hrnn_all", dropout_session=0.2, dropout_user=0.2, dropout_init=0.2
)
CHUNKED = networks.training_config(chunk_steps=4, momentum=0.2)


def run(
    seeds, *, model_config, config, epochs=1, begin=0, states=None, on_chunk=None
) -> tuple[TrainState, list]:
    """Train some epochs; return the state and each epoch's losses."""
    if states is None:
        states = [init_state(seed, model_config, config) for seed in seeds]
    state = jax.tree.map(lambda *a: jnp.stack(a), *states) if len(seeds) > 1 else states[0]
    means = []
    for epoch in range(begin, begin + epochs):
        schedules = [
            epoch_schedule(networks.log(), model_config, config, seed=seed, epoch=epoch)
            for seed in seeds
        ]
        state, mean = run_epoch(
            state,
            schedules,
            TrainSetup(model_config, config),
            seeds=seeds,
            epoch=epoch,
            **({"on_chunk": on_chunk} if on_chunk else {}),
        )
        means.append(mean)
    return state, means


def test_seeds_trained_together_equal_seeds_trained_alone():
    config, settings, seeds = DROPPING, CHUNKED, [0, 1, 5]
    lengths = {
        len(
            epoch_schedule(
                networks.log(), networks.model_config("hrnn_all"), settings, seed=seed, epoch=0
            ).event
        )
        for seed in seeds
    }
    assert len(lengths) > 1
    group, group_losses = run(seeds, model_config=config, config=settings, epochs=2)
    for i, seed in enumerate(seeds):
        alone, alone_losses = run([seed], model_config=config, config=settings, epochs=2)
        networks.assert_close(jax.tree.map(lambda a, i=i: a[i], group), alone, atol=1e-5)
        for together, single in zip(group_losses, alone_losses, strict=True):
            np.testing.assert_allclose(together[i], single[0], rtol=1e-5)


def test_a_seed_determines_the_weights_bit_for_bit():
    config, settings = DROPPING, CHUNKED
    first, again, other = (
        run([seed], model_config=config, config=settings)[0] for seed in (3, 3, 4)
    )
    networks.assert_identical(first, again)
    drawn = [init_state(seed, config, settings).params for seed in (3, 4)]
    for states in ((first.params, other.params), drawn):
        assert np.abs(states[0].items.item_out - states[1].items.item_out).min() > 0


def test_the_order_of_users_depends_on_seed_and_epoch_alone():
    settings = networks.training_config()

    def order(seed, epoch):
        return epoch_schedule(
            networks.log(), networks.model_config("rnn"), settings, seed=seed, epoch=epoch
        ).event

    np.testing.assert_array_equal(order(1, 0), order(1, 0))
    assert not np.array_equal(order(1, 0), order(1, 1))
    assert not np.array_equal(order(1, 0), order(2, 0))
    assert not np.array_equal(order(1, 0), order(0, 1))


@pytest.mark.parametrize("bptt_steps", [1, 2])
def test_dropout_differs_by_step_chunk_epoch_and_seed(bptt_steps):
    config = networks.model_config(dropout_session=0.5)
    frozen = networks.training_config(optimizer="sgd", learning_rate=0.0, bptt_steps=bptt_steps)
    # All steps are alike: users start with the same items, and the weights do not move.
    items = np.tile(np.arange(networks.BATCH, dtype=np.int32), (8, 1))
    yes = np.ones_like(items, bool)
    steps = Steps(
        items,
        items + networks.BATCH,
        yes,
        yes,
        yes,
        0 * items,
        0 * items,
        np.zeros((8, 0), np.int32),
    )

    def drawn(*place, config=config):
        return networks.train(config, frozen, steps, place=np.array([*place, 1], np.uint32))[
            2
        ].tolist()

    (without,) = set(drawn(0, 0, 0, config=networks.model_config()))
    by_place = [drawn(0, 0, 0), drawn(1, 0, 0), drawn(0, 1, 0), drawn(0, 0, 8), drawn(1, 1, 8)]
    assert drawn(0, 0, 0) == by_place[0]
    everything = sum(by_place, [without])
    assert len(set(everything)) == len(everything)


@pytest.mark.parametrize("bptt_steps", [1, 3])
def test_the_loss_of_an_epoch_is_the_mean_over_its_pairs(bptt_steps):
    config = networks.model_config()
    settings = networks.training_config(chunk_steps=6, bptt_steps=bptt_steps, learning_rate=0.05)
    reports = []
    params = init_state(2, config, settings).params
    _, [found] = run(
        [2], model_config=config, config=settings, on_chunk=lambda *each: reports.append(each)
    )
    steps = epoch_schedule(
        networks.log(), networks.model_config("hrnn_init"), settings, seed=2, epoch=0
    ).steps
    n = steps.valid.sum(axis=1)
    assert len(set(n)) > 1  # the steps must not count alike
    assert [events for events, _ in reports] == [
        n[begin : begin + 6].sum() for begin in range(0, len(n), 6)
    ]
    np.testing.assert_allclose(
        sum(events * loss for events, loss in reports) / n.sum(), found, rtol=1e-6
    )
    if bptt_steps == 1:
        expected = networks.by_reference(config, settings, steps, params)["loss"]
        np.testing.assert_allclose(found, (expected * n).sum() / n.sum(), rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "equal"),
    [({}, True), ({"bptt_steps": 3}, True), ({"mean_over": "valid"}, False)],
    ids=["one step", "three steps", "mean over valid lanes"],
)
def test_all_pairs_of_an_epoch_have_the_same_weight(settings, equal):
    """Whatever their lane and step: each item is a target once and moves its bias alone.

    All weights are 0, so that the states are and every softmax is uniform, up to the small steps.
    """
    lengths = np.random.default_rng(0).geometric(0.05, size=9) + 1
    ends = np.cumsum(lengths)
    log = logs.of(
        [[list(range(end - n, end)), [0, 1]] for n, end in zip(lengths, ends, strict=True)]
    ).train
    config = dataclasses.replace(networks.model_config(), n_items=log.n_items)
    rate = 1e-4
    training = networks.training_config(
        loss="full_softmax", optimizer="sgd", learning_rate=rate, **settings
    )
    setup = make_setup(log, config, training)
    state = jax.tree.map(jnp.zeros_like, init_state(0, config, setup.config))
    schedule = epoch_schedule(log, config, setup.config, seed=0, epoch=0)
    assert len(set(schedule.steps.valid.sum(axis=1))) == networks.BATCH  # 1, ..., all lanes
    state, _ = run_epoch(state, [schedule], setup, seeds=[0], epoch=0)
    n_pairs = int(schedule.steps.valid.sum())
    n_lanes = networks.BATCH * training.bptt_steps
    weight = np.asarray(state.params.items.item_bias) * n_lanes / rate
    is_target = np.ones(log.n_items, bool)
    is_target[ends - lengths] = False  # a user's first item
    expected = is_target - n_pairs / log.n_items
    assert np.allclose(weight, expected, atol=0.02) == equal


def test_the_chunk_length_does_not_change_training():
    """Nor does the padding of the last chunk."""
    config = networks.model_config()
    n_steps = len(
        epoch_schedule(
            networks.log(), networks.model_config("hrnn_init"), CHUNKED, seed=0, epoch=0
        ).event
    )
    assert n_steps % 2 or n_steps < 512
    (first, first_losses), (second, second_losses) = (
        run(
            [0],
            model_config=config,
            config=networks.training_config(chunk_steps=n, optimizer="adam", learning_rate=0.01),
        )
        for n in (2, 512)
    )
    networks.assert_close(second, first, atol=2e-5)
    np.testing.assert_allclose(second_losses, first_losses, rtol=1e-5)


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_training_transfers_nothing_implicitly(seeds):
    config, settings = DROPPING, CHUNKED
    states = [init_state(seed, config, settings) for seed in seeds]
    state = jax.tree.map(lambda *a: jnp.stack(a), *states) if len(seeds) > 1 else states[0]
    schedules = [
        epoch_schedule(
            networks.log(), networks.model_config("hrnn_init"), settings, seed=seed, epoch=0
        )
        for seed in seeds
    ]
    with jax.transfer_guard("disallow"):
        run_epoch(state, schedules, TrainSetup(config, settings), seeds=seeds, epoch=0)


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_the_whole_epoch_is_on_the_device_before_its_first_step(seeds, monkeypatch):
    """From the first chunk on, there is not even an explicit transfer to the device."""
    calls = []
    with contextlib.ExitStack() as guards:

        def guarded(*args, **settings):
            program = _program(*args, **settings).result()

            def call(*arguments):
                if not calls:
                    guards.enter_context(jax.transfer_guard_host_to_device("disallow_explicit"))
                calls.append(arguments)
                return program(*arguments)

            future = concurrent.futures.Future()
            future.set_result(call)
            return future

        monkeypatch.setattr("hrnn_jax.training.epoch._program", guarded)
        run(seeds, model_config=DROPPING, config=networks.training_config(chunk_steps=2))
    assert len(calls) > 8


def test_an_interrupted_epoch_compiles_no_further_program(monkeypatch):
    futures, cleared = [concurrent.futures.Future() for _ in range(4)], []
    futures[0].set_exception(KeyboardInterrupt())
    given = iter(futures)

    def begin(*args, **settings):
        return next(given)

    begin.cache_clear = lambda: cleared.append(True)

    def three_widths(schedules, *_):
        chunks = -(-len(schedules[0].event) // CHUNKED.chunk_steps)
        return [[Part(0, 1, Width(networks.BATCH, 1 + i % 3))] for i in range(chunks)]

    monkeypatch.setattr("hrnn_jax.training.epoch._program", begin)
    monkeypatch.setattr("hrnn_jax.training.lane_widths.plan", three_widths)
    with pytest.raises(KeyboardInterrupt):
        run([0], model_config=networks.model_config(), config=CHUNKED)
    assert [future.cancelled() for future in futures] == [False, True, True, True]
    assert cleared


def test_epochs_of_any_length_share_one_compiled_program():
    """Epochs differ in their number of chunks and in how full the last one is."""
    config, settings = networks.model_config("hrnn_all"), networks.training_config(chunk_steps=3)
    lengths, compiled = set(), []
    state = init_state(0, config, settings)
    for number, users in enumerate([3, 5, 7]):
        log = logs.random(0, users=users, sessions=3, n_items=networks.N_ITEMS)
        schedule = epoch_schedule(
            log, networks.model_config("hrnn_all"), settings, seed=0, epoch=number
        )
        lengths.add(len(schedule.event))
        setup = TrainSetup(config, settings)
        state, _ = run_epoch(state, [schedule], setup, seeds=[0], epoch=number)
        compiled.append(_program.cache_info().misses)
    assert len(lengths) == 3
    assert compiled[0] == compiled[-1]


def test_settings_that_a_program_reads_when_it_runs_share_it():
    """A search over learning rates, momentum and dropout compiles no program for each trial."""
    results, compiled = [], []
    for rate, momentum, dropout in ((0.1, 0.2, 0.3), (0.05, 0.4, 0.1)):
        config = networks.model_config(dropout_session=dropout, dropout_init=dropout / 2)
        settings = networks.training_config(learning_rate=rate, momentum=momentum)
        results.append(run([0], model_config=config, config=settings)[0])
        compiled.append(_program.cache_info().misses)
    assert compiled[0] == compiled[1]
    # And it reads them: the same steps in a program of their own give the same weights.
    schedule = epoch_schedule(networks.log(), config, settings, seed=0, epoch=0)
    state, _, _ = networks.train(
        config,
        settings,
        schedule.steps,
        init_state(0, config, settings),
        place=np.array([0, 0, 0, len(schedule.event)], np.uint32),
    )
    networks.assert_close(results[1].params, state.params, atol=1e-5)
    assert not np.allclose(results[0].params.items.item_out, state.params.items.item_out)


@pytest.mark.parametrize("seeds", [[7], [3, 5, 7]])
def test_a_loss_that_is_not_finite_stops_the_epoch(seeds):
    config, settings = DROPPING, CHUNKED
    steps = epoch_schedule(
        networks.log(), networks.model_config("hrnn_init"), settings, seed=7, epoch=2
    ).steps
    # An item that is first read in the second chunk or later.
    item, step = max(
        ((i, int(np.argmax((steps.input == i).any(axis=1)))) for i in range(networks.N_ITEMS)),
        key=lambda each: each[1],
    )
    states = [init_state(seed, config, settings) for seed in seeds]
    params = states[-1].params
    item_in = params.items.item_in.at[item].set(jnp.nan)
    items = dataclasses.replace(params.items, item_in=item_in)
    params = dataclasses.replace(params, items=items)
    states[-1] = dataclasses.replace(states[-1], params=params)
    assert step >= CHUNKED.chunk_steps
    with pytest.raises(errors.DivergedError, match=f"seed 7 is nan in epoch 3 at step {step}$"):
        run(seeds, model_config=config, config=settings, begin=2, states=states)
