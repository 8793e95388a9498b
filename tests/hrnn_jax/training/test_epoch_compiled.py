"""What a compiled chunk of training steps, or of ranking, costs, and where it runs."""

import functools

import jax
import numpy as np
import pytest

from hrnn_jax import model
from hrnn_jax.config import SAMPLED_LOSSES, ModelConfig, TrainConfig
from hrnn_jax.ranking import evaluation, replay, topk
from hrnn_jax.training.epoch import chunk_function
from hrnn_jax.training.lane_widths import Width
from hrnn_jax.training.train import Rates, Running, TrainSetup, init_state, train_chunk
from hrnn_jax.training.user_batches import Steps
from tests.helpers import networks


def abstract(model_config, config, n_steps, width, seeds=None):
    """Return the shapes and dtypes of `train_chunk`'s arguments."""
    batch = config.batch_size
    steps = Steps(
        *(
            jax.ShapeDtypeStruct((n_steps, batch), dtype)
            for dtype in [np.int32] * 2 + [bool] * 3 + [np.int32, np.int8]
        ),
        jax.ShapeDtypeStruct((n_steps, width), np.int32),
    )
    running = Running(
        jax.eval_shape(functools.partial(init_state, 0, model_config, config)),
        jax.eval_shape(functools.partial(model.start_carry, (batch,), model_config)),
        jax.ShapeDtypeStruct((model_config.n_items,), np.int32),
    )
    arguments = running, steps, jax.ShapeDtypeStruct((4,), np.uint32)
    if seeds is not None:
        arguments = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((seeds, *leaf.shape), leaf.dtype), arguments
        )
    return *arguments, jax.ShapeDtypeStruct((2,), np.int32)


@functools.cache
def memory(n_items, seeds=None):
    """Return the memory of the compiled chunk of Table 2's HRNN Init (small), and the state's."""
    config, settings = ModelConfig(n_items=n_items), TrainConfig(momentum=0.2)
    arguments = abstract(config, settings, settings.chunk_steps, 16, seeds)
    function = chunk_function(config, settings, Width(50, 16), stacked=seeds is not None)
    state = sum(4 * leaf.size for leaf in jax.tree.leaves(arguments[0]))
    compiled = function.lower(*arguments, Rates.of(config, settings), None).compile()
    return compiled.memory_analysis(), state


@pytest.mark.parametrize("seeds", [None, 2])
def test_a_chunk_copies_no_table(seeds):
    """Nor its optimizer state: each is 72 MB or 24 MB for each seed."""
    needed, state = memory(60_000, seeds)
    assert needed.alias_size_in_bytes >= state
    assert needed.temp_size_in_bytes < 4e6


def test_the_memory_of_a_step_does_not_depend_on_the_catalogue():
    small, large = (memory(n_items)[0].temp_size_in_bytes for n_items in (1_000, 60_000))
    assert abs(large - small) < 1e4


@pytest.mark.parametrize(
    ("variant", "form", "loss"),
    [
        *((*form, "top1") for form in networks.FORMS),
        *(("hrnn_all", {}, loss) for loss in (*SAMPLED_LOSSES[1:], "full_softmax")),
    ],
)
def test_a_chunk_exports_for_gpu_and_cpu(variant, form, loss):
    config = networks.model_config(variant, dropout_session=0.1, **form)
    settings = networks.training_config(loss=loss, momentum=0.2)
    function = jax.jit(functools.partial(train_chunk, setup=TrainSetup(config, settings)))
    exported = jax.export.export(function, platforms=("cuda", "cpu"))(
        *abstract(config, settings, 3, 8)
    )
    assert exported.platforms == ("cuda", "cpu")


def ranking(n_items, size, n_lanes=256):
    """Return what ranks the cases of a chunk in blocks of `size`, and shapes of its arguments."""
    params = jax.eval_shape(lambda: init_state(0, ModelConfig(n_items), TrainConfig())).params
    items = params.items
    settings = topk.RankSettings(n_first=20, ties="against", rows=4)
    function = jax.jit(functools.partial(evaluation._rank_blocks, settings=settings))
    column = jax.ShapeDtypeStruct((n_items,), np.int32)
    ranked = topk.RankedItems(column, items.item_out, items.item_bias, column, items)
    hidden = jax.ShapeDtypeStruct((128 * n_lanes, items.item_out.shape[1]), np.float32)
    target = jax.ShapeDtypeStruct((128 * n_lanes // size, size), np.int32)
    cases = evaluation.Cases(target, None)
    n_blocks = jax.ShapeDtypeStruct((), np.int32)
    scoring = evaluation._Scoring(ranked, None)
    seen = replay.Seen(hidden, None)
    return function, (scoring, seen, cases, target, n_blocks)


def test_ranking_holds_the_scores_of_one_block():
    """15 MB for any number of cases, and 1 MB for each array of four cases at a time."""
    function, arguments = ranking(60_000, size=64)
    needed = function.lower(*arguments).compile().memory_analysis()
    assert needed.temp_size_in_bytes < 64 * 60_000 * 4 + 6e6


def test_ranking_exports_for_gpu_and_cpu():
    function, arguments = ranking(1_000, size=8, n_lanes=4)
    exported = jax.export.export(function, platforms=("cuda", "cpu"))(*arguments)
    assert exported.platforms == ("cuda", "cpu")
