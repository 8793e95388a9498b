"""Checkpoints restore every bit, are written whole or not at all, and fit one model only."""

import dataclasses
import gc
import json
import shutil
from typing import Any

import jax
import numpy as np
import pytest
from flax import struct

from hrnn_jax import errors
from hrnn_jax.config import ModelConfig, TrainConfig
from hrnn_jax.files import checkpoint
from hrnn_jax.training import train
from hrnn_jax.training.epoch import epoch_schedule, run_epoch
from tests.helpers import logs, networks, weights

N_ITEMS = 20
MODEL = ModelConfig(
    n_items=N_ITEMS,
    variant="hrnn_all",
    hidden_units=6,
    dropout_user=0.2,
    dropout_session=0.2,
    dropout_init=0.2,
)
CONFIGS = {
    "adagrad": TrainConfig(momentum=0.2, batch_size=3, chunk_steps=16),
    "adam": TrainConfig(optimizer="adam", learning_rate=0.01, batch_size=3, chunk_steps=16),
}


# A reader that fails leaves coroutines of its others behind.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _collect_garbage_of_a_failed_read():
    yield
    gc.collect()


def trained(config, *, begin=0, end=1, state=None):
    """Train the epochs from `begin` to `end`."""
    log = logs.random(3, users=8, n_items=N_ITEMS)
    state = train.init_state(1, MODEL, config) if state is None else state
    for epoch in range(begin, end):
        schedule = epoch_schedule(log, MODEL, config, seed=1, epoch=epoch)
        setup = train.TrainSetup(MODEL, config)
        state, _ = run_epoch(state, [schedule], setup, seeds=[1], epoch=epoch)
    return state


def restored(folder, *, epochs, config=CONFIGS["adagrad"], model_config=MODEL):
    return checkpoint.restore(folder, train.init_state(0, model_config, config), epochs=epochs)


def assert_identical(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert [a.dtype for a in jax.tree.leaves(found)] == [a.dtype for a in jax.tree.leaves(expected)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Save after one and after two epochs: the folder, and both states."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    states = [trained(CONFIGS["adagrad"], end=epochs) for epochs in (1, 2)]
    for epochs, state in enumerate(states, start=1):
        checkpoint.save(folder, state, epochs=epochs)
    return folder, states


@pytest.fixture
def copied(saved, tmp_path):
    """Copy the saved checkpoints, to be damaged."""
    folder, states = saved
    return shutil.copytree(folder, tmp_path / "checkpoints"), states


@pytest.mark.parametrize("name", CONFIGS)
def test_resuming_equals_training_without_a_stop(name, tmp_path):
    """Two epochs, then two more from the file, equal four to the bit; dropout included."""
    config = CONFIGS[name]
    half = trained(config, end=2)
    checkpoint.save(tmp_path, half, epochs=2)
    found = restored(tmp_path, epochs=2, config=config)
    assert_identical(found, half)
    assert_identical(trained(config, begin=2, end=4, state=found), trained(config, end=4))


def test_the_newest_two_checkpoints_are_kept(saved):
    folder, states = saved
    assert checkpoint.latest(folder) == 2
    for epochs, state in enumerate(states, start=1):
        assert_identical(restored(folder, epochs=epochs), state)


def test_a_fingerprint_depends_on_every_bit_and_shape(saved):
    """Bug: leave the shapes out, or sort the leaves."""
    params = jax.tree.map(np.array, saved[1][0].params)
    found = {checkpoint.fingerprint(params)}
    assert found == {checkpoint.fingerprint(saved[1][0].params)}
    leaves, structure = jax.tree.flatten(params)
    for i, leaf in enumerate(leaves):
        changed = leaf.copy()
        changed.view(np.uint32).flat[-1] ^= 1
        others = [*leaves[:i], changed, *leaves[i + 1 :]]
        found.add(checkpoint.fingerprint(jax.tree.unflatten(structure, others)))
    turned = jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[::-1]), params)
    swapped = jax.tree.unflatten(structure, leaves[::-1])
    found |= {checkpoint.fingerprint(turned), checkpoint.fingerprint(swapped)}
    assert len(found) == len(leaves) + 3
    assert all(len(text) == 16 for text in found)


def test_reading_does_not_disturb_a_save_in_progress(copied):
    """Of another process, whose checkpoint would be lost otherwise."""
    folder, _ = copied
    under_way = folder / "3.orbax-checkpoint-tmp"
    shutil.copytree(folder / "2", under_way)
    assert checkpoint.latest(folder) == 2
    restored(folder, epochs=2)
    assert under_way.exists()


def test_no_checkpoint_and_one_before_the_first_epoch_differ(tmp_path):
    """Bug: return 0 for both."""
    assert checkpoint.latest(tmp_path / "nothing") is None
    assert not (tmp_path / "nothing").exists()
    assert checkpoint.latest(tmp_path) is None
    checkpoint.save(tmp_path, trained(CONFIGS["adagrad"], end=0), epochs=0)
    assert checkpoint.latest(tmp_path) == 0


def damage(path, how):
    if how == "missing":
        path.unlink()
    elif how == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.write_bytes(bytes(255 - byte for byte in path.read_bytes()))


@pytest.mark.parametrize("how", ["missing", "half", "garbled"])
def test_a_damaged_file_is_an_error_or_has_no_effect(how, copied):
    """For every file: no other state than the saved one is ever restored."""
    folder, states = copied
    newest = folder / "2"
    kept = shutil.copytree(newest, folder.parent / "kept")
    files = [path.relative_to(newest) for path in sorted(newest.rglob("*")) if path.is_file()]
    messages = []
    for file in files:
        damage(newest / file, how)
        try:
            found = restored(folder, epochs=2)
        except errors.InputError as error:
            messages.append(str(error))
        else:
            assert_identical(found, states[1])
        shutil.copyfile(kept / file, newest / file)
    assert len(messages) > 2
    assert all(str(newest) in message and "\n" not in message for message in messages)
    assert_identical(restored(folder, epochs=2), states[1])


@pytest.mark.parametrize("metadata", [None, "", "{", "{}", "[]", '{"item_handlers": "x"}'])
@pytest.mark.parametrize("of_item", ['{"crc32": null}', '{"crc33": [1]}', '{"crc32": [1]}'])
def test_damaged_metadata_do_not_switch_the_checksums_off(metadata, of_item, copied):
    """Bug: pass over checksums that are not there, while other entries are."""
    folder, _ = copied
    path = folder / "2" / "default" / "_METADATA"
    held = json.loads(path.read_text())
    assert list(held["custom_metadata"]) == ["crc32"]
    path.write_text(json.dumps(held | {"custom_metadata": json.loads(of_item)}))
    of_step = folder / "2" / "_CHECKPOINT_METADATA"
    of_step.unlink()
    if metadata is not None:
        of_step.write_text(metadata)
    with pytest.raises(errors.InputError, match="cannot read the checkpoint") as raised:
        restored(folder, epochs=2)
    assert "\n" not in str(raised.value)


def test_weights_are_read_and_checked_without_the_optimizer_s_arrays(copied):
    """Bug: read all, three times the bytes; or compare no checksum."""
    folder, states = copied
    like = train.init_state(0, MODEL, CONFIGS["adagrad"])
    path = folder / "2" / "default" / "_METADATA"
    held = json.loads(path.read_text())
    changed = [*held["custom_metadata"]["crc32"]]
    changed[-1] += 1  # of the optimizer
    path.write_text(json.dumps(held | {"custom_metadata": {"crc32": changed}}))
    assert_identical(checkpoint.restore_params(folder, like, epochs=2), states[1].params)
    changed[0] += 1
    path.write_text(json.dumps(held | {"custom_metadata": {"crc32": changed}}))
    with pytest.raises(errors.InputError, match="not those that were saved"):
        checkpoint.restore_params(folder, like, epochs=2)


def test_the_checkpoint_before_a_damaged_one_restores(copied):
    folder, states = copied
    shutil.rmtree(folder / "2" / "default")
    with pytest.raises(errors.InputError, match=r"checkpoints/2 .*remove that folder"):
        restored(folder, epochs=2)
    assert_identical(restored(folder, epochs=1), states[0])
    shutil.rmtree(folder / "2")  # as the message advises
    assert checkpoint.latest(folder) == 1
    assert_identical(restored(folder, epochs=1), states[0])


def test_an_interrupted_save_leaves_no_checkpoint(copied):
    """A save that stops before its folder is renamed leaves the newest checkpoint as it was."""
    folder, states = copied
    shutil.copytree(folder / "2", folder / "3.orbax-checkpoint-tmp")
    (folder / "3.orbax-checkpoint-tmp" / "default" / "_METADATA").unlink()
    assert checkpoint.latest(folder) == 2
    assert_identical(restored(folder, epochs=2), states[1])
    checkpoint.save(folder, states[0], epochs=3)
    assert checkpoint.latest(folder) == 3
    assert_identical(restored(folder, epochs=3), states[0])


@pytest.mark.parametrize(
    "other",
    [
        {"n_items": N_ITEMS + 1},
        {"hidden_units": 7},
        {"layers": 2},
        {"user_input": "gates"},
        {"variant": "hrnn_init"},
        {"variant": "rnn"},
    ],
    ids=str,
)
def test_a_checkpoint_of_another_model_is_an_error(other, saved, tmp_path):
    """With more weights or with fewer."""
    folder, _ = saved
    config = CONFIGS["adagrad"]
    other_config = ModelConfig(
        **{"n_items": N_ITEMS, "variant": "hrnn_all", "hidden_units": 6, **other}
    )
    with pytest.raises(errors.InputError, match="cannot read the checkpoint"):
        restored(folder, epochs=2, model_config=other_config)
    checkpoint.save(tmp_path, train.init_state(0, other_config, config), epochs=1)
    with pytest.raises(errors.InputError, match="cannot read the checkpoint"):
        restored(tmp_path, epochs=1)


def test_a_checkpoint_of_another_optimizer_is_an_error(saved):
    folder, _ = saved
    for config in (CONFIGS["adam"], TrainConfig(), TrainConfig(optimizer="sgd")):
        with pytest.raises(errors.InputError, match="cannot read the checkpoint"):
            restored(folder, epochs=2, config=config)


def test_save_has_written_everything_when_it_returns(tmp_path):
    """The next update overwrites the buffers that were saved."""
    config = CONFIGS["adagrad"]
    state = trained(config)
    before = jax.tree.map(np.array, state)
    checkpoint.save(tmp_path, state, epochs=1)
    trained(config, begin=1, end=2, state=state)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    assert_identical(restored(tmp_path, epochs=1), before)


@struct.dataclass
class EarlierUserNetwork:
    """The weights of the first version 0.1.0: without those that are None by default."""

    w_in: Any
    gru: Any
    init_w: Any
    init_b: Any
    to_session_w: Any


@struct.dataclass
class EarlierNetwork:
    session: Any
    session_w_in: Any
    user: Any


def test_a_checkpoint_older_than_optional_weights_restores(tmp_path):
    config, how = networks.model_config(), networks.training_config()
    params = weights.drawn(config)
    user = params.network.user
    names = EarlierUserNetwork.__dataclass_fields__
    earlier = EarlierNetwork(
        session=params.network.session,
        session_w_in=params.network.session_w_in,
        user=EarlierUserNetwork(**{name: getattr(user, name) for name in names}),
    )
    kept = dataclasses.replace(params, network=earlier)
    state = train.TrainState(kept, train.make_optimizer(how).init(kept))
    checkpoint.save(tmp_path, state, epochs=1)
    like = jax.eval_shape(lambda: train.init_state(0, config, how))
    found = checkpoint.restore(tmp_path, like, epochs=1)
    networks.assert_identical(found.params, params)
