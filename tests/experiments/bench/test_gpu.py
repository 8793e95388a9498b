"""The benchmark's parts for a GPU: measured in processes of their own, and lowered for CUDA."""

import collections
import functools
import multiprocessing
import os
import pathlib
import threading

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments.bench import gpu
from experiments.bench.benchmark_model import INIT_SMALL, PLUS_SAMPLED, PLUS_SOFTMAX, random_log
from experiments.bench.record import Row
from experiments.bench.timing import Settings
from experiments.common import cli, model_flags
from hrnn_jax import errors
from hrnn_jax.config import EvaluationConfig, TrainConfig
from hrnn_jax.extras import negatives
from hrnn_jax.model import start_carry
from hrnn_jax.ranking import evaluation, replay, topk
from hrnn_jax.repeat_explore import history as histories
from hrnn_jax.repeat_explore import neighbours
from hrnn_jax.repeat_explore.mixture import FittedMixture
from hrnn_jax.training.train import TrainSetup, init_state, train_chunk
from tests.helpers import mixtures
from tests.hrnn_jax.training.test_epoch_compiled import abstract

ROW = Row("a", [2.0])
MILLION = 1_000_000


def settings(folder=pathlib.Path(), **values):
    sizes = {"repeats": 2, "long_repeats": 2, "scale": 0.01, "steps": 1, **values}
    return Settings(**sizes, prepared=folder, scratch=folder)


def crash(_):
    yield "first", ROW
    os._exit(3)


def wait(_):
    threading.Event().wait()
    yield "", ROW


def finish(_):
    yield "first", ROW
    yield "", ROW


def test_rows_of_a_part_arrive_by_name(monkeypatch, tmp_path):
    """Bug: name rows by their part alone."""
    monkeypatch.setitem(gpu.PARTS, "small", finish)
    assert list(gpu.measure("small", settings(tmp_path))) == [("small/first", ROW), ("small", ROW)]


def test_a_part_that_crashes_keeps_its_rows_and_is_an_error(monkeypatch, tmp_path):
    """Bug: take the end of the pipe for the end of the part."""
    monkeypatch.setitem(gpu.PARTS, "small", crash)
    rows = gpu.measure("small", settings(tmp_path))
    assert next(rows) == ("small/first", ROW)
    with pytest.raises(errors.InputError, match="small: its process ended with code 3"):
        next(rows)


def test_a_part_ends_when_the_time_is_up(monkeypatch, tmp_path):
    """Bug: leave the process running, with the device's memory."""
    monkeypatch.setitem(gpu.PARTS, "small", wait)
    with pytest.raises(TimeoutError, match="small: the time was up"):
        list(gpu.measure("small", settings(tmp_path), until=-1))
    assert multiprocessing.active_children() == []


def test_a_rate_is_the_count_by_the_seconds():
    """Bug: give the seconds."""
    row = gpu._rate_row(settings(), "a", 100, iter([9.0, 4.0, 5.0]).__next__)  # the first warms up
    assert row.measured == [25.0, 20.0]


def test_the_peak_is_noted_where_a_device_knows_it():
    """Bug: note what is in use now."""

    class Device:
        def __init__(self, stats):
            self.memory_stats = lambda: stats

    stats = {"bytes_in_use": 1, "peak_bytes_in_use": 1_234_000_000}
    assert gpu.peak_notes(Device(stats)) == ["peak device memory 1.23 GB"]
    assert gpu.peak_notes(Device(None)) == []


def test_plus_is_its_flag_file():
    """Bug: leave out `negative_hours`, which the flag file sets."""
    with flagsaver.flagsaver():
        flags.FLAGS(["run", *cli.expand(["--flagfile=hrnn_plus.flags"], whole=False)])
        for model, n_items in ((PLUS_SAMPLED, MILLION), (PLUS_SOFTMAX, 10_000)):
            scaled = model.replace(n_items=n_items)
            assert scaled.model_config == model_flags.model_config(n_items=n_items)
            assert scaled.train_config == model_flags.train_config().for_catalogue(n_items)


def test_plus_measures_training_and_ranking_of_all_pairs(monkeypatch):
    """Bug: count events, of which a session's last has no target."""
    counts = {}

    def rate_row(settings, what, count, function, **_):
        counts[what.rpartition(": ")[2].partition(" ")[0]] = count, function()
        return ROW

    monkeypatch.setattr(gpu, "_rate_row", rate_row)
    names = [name for name, _ in gpu.plus(settings(scale=0.001), 100_000)]
    assert names == ["training", "ranking"]
    log = random_log(np.random.default_rng(0), 2, 100, tested=True)
    pairs = [np.flatnonzero(log.follows & (log.test == test)) for test in (False, True)]
    assert [count for count, _ in counts.values()] == [*map(len, pairs)]
    assert min(seconds for _, seconds in counts.values()) > 0


def test_the_profile_lists_the_largest_operations_first(monkeypatch, tmp_path):
    """Bug: list the operations by name."""

    class Training:
        def epoch(self):
            return 8.0

    profiles = iter([{"a": 9.0}, {"a": 1.0, "b": 3.0}, {"b": 2.0}])  # the first warms up
    monkeypatch.setattr(gpu, "train_steps", lambda *_: Training())
    monkeypatch.setattr(
        gpu, "operations", lambda _, epoch: epoch() or collections.Counter(next(profiles))
    )
    rows = [(name, row.measured) for name, row in gpu.profile(settings(tmp_path), INIT_SMALL)]
    assert rows == [("busy", [0.5, 0.25]), ("1", [0.75, 1.0]), ("2", [0.25, 0.0])]


@functools.cache
def plus_of_a_million():
    """Return hrnn_plus on a million items, and the shapes of its setup and its state."""
    model = PLUS_SAMPLED.replace(n_items=MILLION)
    column = jax.ShapeDtypeStruct((MILLION,), np.int32)
    sampler = negatives.Sampler(
        bound=jax.ShapeDtypeStruct((MILLION - 1,), np.uint32),
        first=jax.ShapeDtypeStruct(((1 << 20) + 1,), np.int32),
        halvings=3,
        log_expected=jax.ShapeDtypeStruct((MILLION,), np.float32),
        offer=negatives.Offer(column, column),
    )
    setup = TrainSetup(model.model_config, model.train_config, sampler)
    return model, setup, jax.eval_shape(model.init)


def export(function, *arguments):
    """Lower a function for CUDA; what it cannot lower is an error."""
    exported = jax.export.export(jax.jit(function), platforms=("cuda",))(*arguments)
    assert exported.platforms == ("cuda",)


def test_drawing_a_million_items_exports_for_gpu():
    model, _, _ = plus_of_a_million()
    config = model.model_config, model.train_config
    export(lambda seed: init_state(seed, *config), jax.ShapeDtypeStruct((), np.int32))


def test_training_hrnn_plus_on_a_million_items_exports_for_gpu():
    model, setup, _ = plus_of_a_million()
    export(train_chunk, *abstract(model.model_config, model.train_config, 3, 8), setup)


def test_training_ten_seeds_in_4096_lanes_exports_for_gpu():
    model = INIT_SMALL.replace(batch_size=max(gpu.BATCHES))
    setup = TrainSetup(model.model_config, model.train_config)
    chunk = jax.vmap(functools.partial(train_chunk, setup=setup), in_axes=(0, 0, 0, None))
    export(chunk, *abstract(model.model_config, model.train_config, 3, 800, gpu.SEEDS))


def test_ranking_a_million_items_by_hrnn_plus_exports_for_gpu():
    """With the mixture, all cases of a block at a time."""
    model, _, state = plus_of_a_million()
    config, rows = model.model_config, 8
    lanes = TrainConfig(batch_size=EvaluationConfig.lanes)
    steps, items = abstract(config, lanes, 128, 64)[1], state.params.items
    shape = (lanes.batch_size,)
    states = jax.eval_shape(
        lambda: (start_carry(shape, config), histories.start(shape, config.places))
    )
    seen = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct((128 * len(a), *a.shape[1:]), a.dtype),
        replay.Seen(states[0].session[-1], states[1]),
    )
    bootstrap = functools.partial(replay._bootstrap, model_config=config)
    of_steps = jax.ShapeDtypeStruct((128, *shape), np.int32)  # minutes, and rows of what is seen
    export(bootstrap, state.params, states, seen, steps, of_steps, of_steps)
    column = jax.ShapeDtypeStruct((MILLION,), np.int32)
    ranked = topk.RankedItems(column, items.item_out, items.item_bias, column, items)
    near = (MILLION, config.neighbours)
    table = neighbours.Table(
        jax.ShapeDtypeStruct(near, np.int32),
        jax.ShapeDtypeStruct((MILLION, neighbours.SHARES, config.neighbours), np.float32),
        jax.ShapeDtypeStruct((MILLION, 2), np.int32),
    )
    mixture = FittedMixture(jax.eval_shape(mixtures.drawn), table)
    target = jax.ShapeDtypeStruct((128 * lanes.batch_size // rows, rows), np.int32)
    cases = evaluation.Cases(target, None)
    settings = topk.RankSettings(n_first=5, ties="against", rows=rows)
    rank = functools.partial(evaluation._rank_blocks, settings=settings)
    scoring = evaluation._Scoring(ranked, mixture)
    export(rank, scoring, seen, cases, target, jax.ShapeDtypeStruct((), np.int32))
