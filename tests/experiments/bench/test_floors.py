"""A floor computes exactly the matrix products of the work that it stands for."""

import re

import jax
import numpy as np
import pytest

from experiments.bench import floors, steps
from experiments.bench.benchmark_model import BenchmarkModel, train_steps
from hrnn_jax.config import ModelConfig, TrainConfig

B, H, W = 6, 5, 3
SESSION = [(B, H, 2 * H), (B, H, H), (B, H, B), (B, B, H), (B, H, H)]  # GRU_ses, scores, back
SESSION += [(B, B, H), (H, B, H), (H, B, 2 * H)]  # gradients of item_out, w_cand, w_gates
USER = [(W, H, 3 * H), (W, H, 2 * H), (W, H, H), (W, H, H)]  # GRU_usr and Eq. 4
USER += [(W, 2 * H, H), (W, H, H), (W, H, H)]  # back to the opened states, through Eq. 4, to r c
USER += [(H, W, H), (H, W, H), (H, W, 2 * H), (H, W, 3 * H)]  # gradients of their weights
PRODUCTS = {  # (rows, inner, columns) by hand
    ("rnn", "full"): SESSION,
    ("rnn_concat", "full"): SESSION,
    ("hrnn_init", "full"): SESSION + USER,
    ("hrnn_all", "full"): [*SESSION, *USER, (B, H, 3 * H), (H, B, 3 * H), (W, 3 * H, H)],
    ("hrnn_all", "gates"): [*SESSION, *USER, (B, H, 2 * H), (H, B, 2 * H), (W, 2 * H, H)],
}


def config(variant, user_input):
    return ModelConfig(n_items=20, variant=variant, user_input=user_input, hidden_units=H)


def flops_of(compiled):
    """Return the flops of each matrix product in a compiled program."""
    text = compiled.as_text()
    shapes = {
        name: [int(n) for n in sizes.split(",")]
        for name, sizes in re.findall(r"(%[\w.-]+) = f32\[([\d,]+)\]", text)
    }
    products = re.findall(
        r"(%[\w.-]+) = f32\S* dot\((%[\w.-]+), .*lhs_contracting_dims=\{(\d)\}", text
    )
    return sorted(
        2 * int(np.prod(shapes[out])) * shapes[left][int(dim)] for out, left, dim in products
    )


def opening(variant):
    return W if variant.startswith("hrnn") else 0


@pytest.mark.parametrize(("form", "expected"), PRODUCTS.items())
def test_a_floor_computes_each_product_of_a_step_once_and_nothing_else(form, expected):
    """Neither dropped, nor merged, nor cut down to the number that leaves the scan.

    Bug: leave `kept` out of what an update returns, and out of its operands.
    """
    floor = floors.step(config(*form), batch=B, opening=opening(form[0]), steps=7, candidates=B)
    expected = sorted(2 * m * k * n for m, k, n in expected)
    assert flops_of(floor.compiled) == expected
    # Beside them, the count of steps.
    assert sum(expected) <= floor.compiled.cost_analysis()["flops"] < sum(expected) + 10


@pytest.fixture(scope="module")
def compiled():
    """Return a training and its compiled chunk by variant, each made once."""
    made = {}

    def of(variant):
        if variant not in made:
            train_config = TrainConfig(batch_size=B)
            model = BenchmarkModel("small", config(variant, "gates"), train_config)
            training = train_steps(model, steps=1)
            made[variant] = training, training.compiled()
        return made[variant]

    return of


@pytest.mark.parametrize("variant", ["rnn", "hrnn_all"])
def test_a_step_computes_the_products_of_its_floor(compiled, variant):
    """Bug: give either one a product that the other lacks, such as a gradient of all states."""
    training, chunk = compiled(variant)
    opening = training.width.opening
    floor = floors.step(config(variant, "gates"), batch=B, opening=opening, steps=7, candidates=B)
    assert flops_of(chunk) == flops_of(floor.compiled)


@pytest.mark.parametrize(
    ("loss", "candidates", "vectors"),
    [
        ({"loss": "cross_entropy", "extra_negatives": 4}, B + 4, []),
        # The gradient of the biases is a product with a vector, which is no part of the floor.
        ({"loss": "full_softmax"}, 20, [2 * B * 20]),
    ],
)
def test_a_step_with_other_candidates_computes_the_products_of_its_floor(loss, candidates, vectors):
    """Bug: leave the embedding's product out of the floor, or count the batch's targets alone."""
    model = BenchmarkModel(
        "tied",
        ModelConfig(20, "rnn", hidden_units=H, embedding="tied"),
        TrainConfig(batch_size=B, **loss),
    )
    assert model.candidates == candidates
    chunk = train_steps(model, steps=1).compiled()
    floor = floors.step(model.model_config, batch=B, opening=0, steps=7, candidates=candidates)
    assert flops_of(chunk) == sorted([*flops_of(floor.compiled), *vectors])


def test_the_kinds_of_a_steps_operations(compiled):
    """Bug: look for dots in the operation alone, not in what is fused into it."""
    training, chunk = compiled("hrnn_all")
    kinds = steps.operation_kinds(chunk.as_text(), training.model.model_config)
    kinds = list(kinds.values())
    assert kinds.count(steps.PRODUCTS) == len(flops_of(chunk))
    # A weight and its sum of squares, of 2 GRUs of 3, of GRU_usr's input and of Eq. 4.
    assert kinds.count(steps.DENSE) >= 2 * (2 * 3 + 1 + 2)
    assert kinds.count(steps.ROWS) >= 3 * 3  # read, summed and written, of 3 tables


def test_the_bytes_of_a_state_are_those_of_its_arrays(compiled):
    """Bug: leave out the optimizer state."""
    training, _ = compiled("rnn")
    arrays = jax.tree.leaves(training.state)
    assert training.model.state_bytes == sum(array.nbytes for array in arrays)


def test_the_arrays_carried_by_a_floor_neither_vanish_nor_grow():
    """Bug: draw right operands above 1; numbers that are not normal may be slow to multiply."""
    floor = floors.step(config("hrnn_all", "full"), batch=B, opening=W, steps=20_000, candidates=B)
    after, _ = floor()
    for leaf in jax.tree.leaves(after):
        assert 1e-3 < np.abs(leaf).max() < 1e3


def test_the_floor_of_ranking_computes_all_scores_of_a_block():
    """Bug: multiply `block[:1]`, as a compiler could that knows one number to be asked for."""
    floor = floors.scores(300, 1_000, H)
    assert floor.compiled.cost_analysis()["flops"] == pytest.approx(
        2 * floors.BLOCK * H * 1_000, rel=0.01
    )
    assert floor.compiled.memory_analysis().temp_size_in_bytes >= 4 * floors.BLOCK * 1_000
