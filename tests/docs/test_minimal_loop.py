"""The minimal loop makes the library's batches, losses, weights and ranks."""

import ast
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrnn_jax import epoch_schedule, init_state, rank, summarise
from hrnn_jax.training import user_batches
from tests.docs import examples
from tests.helpers import logs, networks

EPOCHS = 3
LOG = logs.random(0, users=10, n_items=networks.N_ITEMS)
CONFIGS = networks.model_config(), networks.training_config()


@pytest.fixture(autouse=True)
def _promotion():
    """Let arrays of different ranks be added, as a script may."""
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def minimal(monkeypatch):
    """Return the loop in the shapes of the tests' network."""
    module = examples.load("minimal_loop")
    sizes = {"HIDDEN_UNITS": CONFIGS[0].hidden_units, "BATCH_SIZE": networks.BATCH}
    for name, value in {**sizes, "EPOCHS": EPOCHS}.items():
        monkeypatch.setattr(module, name, value)
    return module


def weights_of(params):
    """Return the library's weights in the loop's form, as copies."""
    [session], user, items = params.network.session, params.network.user, params.items
    weights = {
        "session_in": items.item_in,
        "session_gru": (session.w_cand, session.w_gates, session.b),
        "user_in": user.w_in,
        "user_gru": (user.gru.w_cand, user.gru.w_gates, user.gru.b),
        "init": (user.init_w, user.init_b),
        "output": (items.item_out, items.item_bias),
    }
    return jax.tree.map(jnp.array, weights)


def library_epochs():
    """Train by the library: yield each epoch's steps, their losses, and the state after it."""
    state = init_state(0, *CONFIGS)
    for epoch in range(EPOCHS):
        steps = epoch_schedule(LOG.train, *CONFIGS, seed=0, epoch=epoch).steps
        padded = user_batches.pad(steps, networks.N_STEPS, 8)
        state, _, losses = networks.train(*CONFIGS, padded, state)
        yield steps, np.asarray(losses)[: len(steps.input)], state


def test_each_step_has_the_librarys_loss_and_each_epoch_its_weights(minimal):
    pairs, n_items = minimal.make_pairs(LOG.user, LOG.session, LOG.item)
    assert n_items == LOG.n_items
    training = pairs[pairs[:, 4] == 0]
    w = weights_of(init_state(0, *CONFIGS).params)
    squares = jax.tree.map(jnp.zeros_like, w)
    for epoch, (steps, expected, after) in enumerate(library_epochs()):
        state = (jnp.zeros((networks.BATCH, CONFIGS[0].hidden_units)),) * 2
        batches = minimal.make_batches(training, np.random.default_rng((0, epoch)))
        losses = []
        for batch in batches:
            w, squares, state, loss = minimal.update(w, squares, state, batch)
            losses.append(loss * networks.BATCH / batch.valid.sum())
        assert sum(batch.valid.sum() for batch in batches) == steps.valid.sum() == len(training)
        np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-5)
        networks.assert_close(w, weights_of(after.params), atol=1e-5)


def test_it_prints_the_librarys_epoch_losses_and_recall(minimal, monkeypatch, capsys):
    start = weights_of(init_state(0, *CONFIGS).params)
    monkeypatch.setattr(minimal, "init_weights", lambda n_items, rng: start)
    minimal.main((LOG.user, LOG.session, LOG.item))
    *losses, recall = re.findall(r": (?:loss )?(0\.\d+)", capsys.readouterr().out)
    epochs = list(library_epochs())
    for found, (steps, expected, _) in zip(losses, epochs, strict=True):
        mean = np.average(expected, weights=steps.valid.sum(axis=1))
        assert float(found) == pytest.approx(mean, abs=1e-4)
    ranking = rank(epochs[-1][2].params, LOG, model_config=CONFIGS[0])
    assert float(recall) == pytest.approx(summarise(ranking.rank, [5])["recall@5"], abs=1e-4)


def test_a_log_is_cut_into_sessions_at_pauses_of_half_an_hour(minimal, tmp_path):
    path = tmp_path / "log.csv"
    rows = ["ts,item_id,user_id", "5000,x,b", "100,y,a", "1900,z,a", "3701,x,a", "0,y,b"]
    path.write_text("\n".join(rows))
    user, session, item = minimal.read_log(path)
    assert user.tolist() == [0, 0, 0, 1, 1]
    assert np.diff(session).tolist() == [0, 1, 1, 1]
    assert item.tolist() == ["y", "z", "x", "y", "x"]


@pytest.mark.parametrize(
    "rows", [["user,item_id,ts", "1,2,3"], ["user_id,item_id,ts", "1,2,2024-01-01", "1,3,now"]]
)
def test_a_log_of_other_columns_ends_in_one_line(minimal, tmp_path, rows):
    """Bug: leave it to numpy, which has no field of that name, or subtracts no texts."""
    path = tmp_path / "log.csv"
    path.write_text("\n".join(rows))
    with pytest.raises(SystemExit, match=r"log\.csv: give it columns user_id, item_id and ts, in"):
        minimal.read_log(path)


@pytest.mark.parametrize("ts", ["", "-5", "1700000000000", "nan"])
def test_a_time_that_is_missing_or_not_in_seconds_is_refused(minimal, tmp_path, ts):
    """Bug: take numpy's -1 of a missing time, or make each event a session."""
    path = tmp_path / "log.csv"
    path.write_text(f"user_id,item_id,ts\n1,2,3\n1,3,{ts}\n")
    with pytest.raises(SystemExit, match=r"log\.csv: a ts is missing, negative or in milliseconds"):
        minimal.read_log(path)


@pytest.mark.parametrize("rows", [["1,2,3"], ["1,2,3", "1,3,4", "2,3,4"], ["1,2,3", "1,2,9999"]])
def test_a_log_without_a_training_and_a_test_pair_is_refused(minimal, tmp_path, rows):
    """Bug: divide by no pairs."""
    path = tmp_path / "log.csv"
    path.write_text("\n".join(["user_id,item_id,ts", *rows]))
    with pytest.raises(SystemExit, match="give a log of users with two sessions"):
        minimal.main(minimal.read_log(path))


def test_four_of_five_made_items_follow_by_the_users_taste(minimal):
    user, session, item = minimal.make_log()
    for taste in range(3):
        pairs = np.zeros((100, 100), int)
        at = np.flatnonzero((session[1:] == session[:-1]) & (user[1:] % 3 == taste))
        np.add.at(pairs, (item[at], item[at + 1]), 1)
        assert pairs.max(axis=1).sum() / len(at) == pytest.approx(0.8, abs=0.02)


def test_it_is_short_and_needs_jax_and_numpy_alone():
    text = (examples.FOLDER / "minimal_loop.py").read_text()
    assert len(text.splitlines()) < 155
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import)]
    names = {alias.name for node in nodes for alias in node.names}
    assert names == {"collections", "sys", "jax", "jax.numpy", "numpy"}
    assert not any(isinstance(node, ast.ImportFrom) for node in ast.walk(ast.parse(text)))
