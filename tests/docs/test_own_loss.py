"""The example of an own loss: its values, and a run that trains with it by its name."""

import hashlib
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hrnn_jax
from hrnn_jax import load_run, losses
from hrnn_jax.config import TrainConfig
from hrnn_jax.errors import InputError
from tests.docs import examples
from tests.helpers import logs


def test_the_margin_is_the_mean_hinge_over_the_negatives_that_count():
    r = np.random.default_rng(0).normal(size=(4, 6))
    among = np.random.default_rng(1).random((4, 6)) < 0.7
    np.fill_diagonal(among, True)
    among[2] = False  # a lane of padding
    expected = np.zeros(4)
    for i in (0, 1, 3):
        negatives = [j for j in range(6) if j != i and among[i, j]]
        expected[i] = np.mean([max(0, 1 + r[i, j] - r[i, i]) for j in negatives])
    r[~among] = np.nan  # must reach neither the loss nor its gradient
    margin = examples.load("own_loss").margin
    np.testing.assert_allclose(margin(jnp.array(r), jnp.array(among)), expected, rtol=1e-5)
    gradient = jax.grad(lambda r: margin(r, jnp.array(among)).sum())(jnp.array(r))
    assert not gradient[~among].any()
    assert np.isfinite(gradient).all()


def test_the_command_trains_with_the_loss_and_others_read_its_run(tmp_path):
    logs.write(tmp_path / "log.csv")
    data = "--dataset=events", "--events=log.csv", "--min_support=1"
    small = "--hidden_units=8", "--batch_size=30", "--epochs=2", "--compilation_cache="
    examples.run("own_loss", "--loss=margin", *data, *small, "--output_dir=run", folder=tmp_path)
    recipe = json.loads((tmp_path / "run/recipe.json").read_text())
    assert recipe["training"]["loss"] == "margin"
    file = (examples.FOLDER / "own_loss.py").read_bytes()
    assert recipe["source"] == hashlib.sha256(file).hexdigest()[:12]
    history = (tmp_path / "run/history.jsonl").read_text().splitlines()
    first, second = (json.loads(line)["loss"] for line in history)
    assert second < first
    trained, _ = load_run(tmp_path / "run")  # here, where nothing is registered
    assert trained.epochs == 2


def test_a_registered_loss_is_accepted_and_has_the_settings_of_sampled_losses():
    with pytest.raises(InputError, match="`loss`=margin"):
        TrainConfig(loss="margin")
    examples.load("own_loss")
    TrainConfig(loss="margin", activation="tanh", extra_negatives=5, mask_false_negatives=True)
    with pytest.raises(InputError, match="has no effect without `loss`=bpr_max"):
        TrainConfig(loss="margin", regularisation=1.0)


@pytest.mark.parametrize(
    ("shape", "returned"),
    [
        (lambda loss, r: loss.mean(), r"the shape \[\]"),
        (lambda loss, r: loss[:, None], r"the shape \[10, 1\]"),
        (lambda loss, r: r, r"the shape \[10, 10\]"),
        (lambda loss, r: (loss, r), "tuple"),
    ],
)
def test_a_loss_of_another_shape_is_refused(tmp_path, shape, returned):
    """Bug: a mean over the lanes is broadcast, and trains with the sum of all lanes."""
    name = re.sub(r"\W", "", f"wrong_{returned}")  # what is compiled for a name is kept
    losses.register(name, lambda r, among: shape(losses.top1(r, among), r))
    train, _ = hrnn_jax.read(logs.write(tmp_path / "log.csv"), min_support=1).split("last_session")
    network = hrnn_jax.RNN(loss=name, hidden_units=4, batch_size=10)
    with pytest.raises(InputError, match=f"{name} returned {returned}, and .10. is expected"):
        network.fit(train, epochs=1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "softmax"}, "`name`=softmax: there is a loss of this name"),
        ({"name": "margin", "activation": "sin"}, "`activation`=sin: give one of tanh, linear"),
    ],
)
def test_a_taken_name_and_an_unknown_activation_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        losses.register(**{"loss": losses.top1, **given})
    assert "margin" not in losses.SAMPLED
