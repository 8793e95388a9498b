"""A small network, its steps and its training, in shapes that tests share to compile once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from hrnn_jax import losses, model
from hrnn_jax.config import ModelConfig, TrainConfig
from hrnn_jax.training import user_batches
from hrnn_jax.training.train import Running, TrainSetup, TrainState, make_optimizer, train_chunk
from hrnn_jax.training.user_batches import NO_ITEM, Steps
from tests.helpers import logs, reference, weights

N_ITEMS, BATCH, N_STEPS = 12, 4, 32
FORMS = [  # variant, and further settings of the network
    ("rnn", {}),
    ("hrnn_init", {}),
    ("hrnn_init", {"leak": "carried"}),
    ("hrnn_all", {}),
    ("hrnn_all", {"user_input": "gates"}),
    ("hrnn_all", {"leak": "carried"}),
]
PLACE = np.zeros(4, np.uint32)


def model_config(variant="hrnn_init", **settings):
    return ModelConfig(n_items=N_ITEMS, variant=variant, hidden_units=5, **settings)


def training_config(**settings):
    return TrainConfig(**{"batch_size": BATCH, **settings})


def fresh(model_config, config, seed=0):
    """Return a state of large drawn weights."""
    params = weights.drawn(model_config, seed=seed)
    return TrainState(params, make_optimizer(config).init(params))


_chunk = jax.jit(train_chunk)  # without donation, so that tests may use the arguments again


@functools.cache
def log():
    return logs.random(0, users=10, n_items=N_ITEMS)


@functools.cache
def epoch_steps(variant="hrnn_init", *, feed_last_item=False):
    """Lay out an epoch, of one shape in all tests, so that they share compiled programs."""
    laid, rng = user_batches.layout(log(), variant), np.random.default_rng(0)
    steps = user_batches.build(laid, BATCH, rng=rng, feed_last_item=feed_last_item).steps
    return user_batches.pad(steps, N_STEPS, 8)


def train(model_config, config, steps, state=None, carry=None, place=PLACE, sampler=None):
    """Train on steps [T, B] in one chunk; returns state, carry and losses."""
    state = fresh(model_config, config) if state is None else state
    carry = model.start_carry(steps.input.shape[1:], model_config) if carry is None else carry
    running = Running(state, carry, np.zeros(model_config.n_items, np.int32))
    span = np.array([0, len(steps.input) // config.bptt_steps], np.int32)
    running, losses = _chunk(running, steps, place, span, TrainSetup(model_config, config, sampler))
    return running.state, running.carry, losses


def lane_losses(name, scores, where):
    """Compute a sampled loss on scores [N, N] before the output's activation."""
    loss, activation = losses.SAMPLED[name]
    among = where[:, None] & where[None, :]
    return loss(losses.ACTIVATIONS[activation](jnp.where(among, scores, 0)), among)


def one_step(steps, t):
    return Steps(*(array[t : t + 1] for array in steps))


def assert_close(found, expected, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol), found, expected)


def assert_identical(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def by_reference(model_config, config, steps, params):
    return reference.train_steps(
        weights.named(params),
        *(np.where(items == NO_ITEM, reference.NO_ITEM, items) for items in steps[:2]),
        *steps[2:5],
        variant=model_config.variant.removesuffix("_concat"),
        user_input=model_config.user_input,
        learning_rate=config.learning_rate,
        momentum=config.momentum,
        loss=config.loss,
        mean_over=config.mean_over,
        leak=model_config.leak,
    )
