"""Checkpoints of sharded arrays: what is damaged or of another model is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrnn_jax.errors import InputError
from hrnn_jax.files import checkpoint
from hrnn_jax.sharding import checkpoints

STATE = {"bias": np.float32([0.5, -1]), "table": np.arange(12, dtype=np.float32).reshape(4, 3)}


def on_device(state=STATE):
    return jax.device_put(state)


def test_a_saved_state_comes_back_and_the_newest_is_named(tmp_path):
    assert checkpoint.latest(tmp_path) is None
    checkpoints.save(tmp_path, on_device(), epochs=1)
    checkpoints.save(tmp_path, jax.tree.map(lambda a: a + 1, on_device()), epochs=2)
    assert checkpoint.latest(tmp_path) == 2
    for epochs in (1, 2):
        there = checkpoints.restore(tmp_path, on_device(), epochs=epochs)
        for name, array in STATE.items():
            np.testing.assert_array_equal(there[name], array + (epochs - 1))


def cannot_save(error, monkeypatch, tmp_path):
    """Save with a writer that raises an error; returns the one that comes out."""

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(checkpoints.ocp.CheckpointManager, "save", fail)
    with pytest.raises((InputError, RuntimeError)) as raised:
        checkpoints.save(tmp_path, on_device(), epochs=1)
    return raised.value


def test_a_full_disk_is_reported_whatever_the_writer_raises(monkeypatch, tmp_path):
    """Bug: catch OSError alone, which the writer wraps in errors of its own."""
    found = cannot_save(ValueError("RESOURCE_EXHAUSTED: no space"), monkeypatch, tmp_path)
    assert isinstance(found, InputError)
    assert "cannot write the checkpoint" in str(found)


def test_the_death_of_another_process_is_not_reported_as_a_full_disk(monkeypatch, tmp_path):
    """Bug: take all that a save raises for an error of the disk."""
    error = RuntimeError("Barrier timed out: the coordination service lost a task")
    assert cannot_save(error, monkeypatch, tmp_path) is error


@pytest.mark.parametrize(
    "other",
    [
        STATE | {"table": np.zeros((5, 3), np.float32)},
        STATE | {"table": np.zeros((4, 3), np.int32)},
        {"bias": STATE["bias"]},
    ],
)
def test_a_checkpoint_of_another_model_is_refused(tmp_path, other):
    checkpoints.save(tmp_path, on_device(), epochs=1)
    with pytest.raises(InputError, match="other weights than this model"):
        checkpoints.restore(tmp_path, on_device(other), epochs=1)


def test_a_checkpoint_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read the checkpoint"):
        checkpoints.restore(tmp_path, on_device(), epochs=3)


def test_a_changed_byte_of_a_table_is_refused(tmp_path):
    table = np.linspace(1, 2, 3000, dtype=np.float32).reshape(1000, 3)
    checkpoints.save(tmp_path, on_device(STATE | {"table": table}), epochs=1)
    needle = table[500:502].tobytes()
    [file] = [
        path for path in tmp_path.rglob("*") if path.is_file() and needle in path.read_bytes()
    ]
    content = bytearray(file.read_bytes())
    content[content.index(needle) + 1] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match="cannot read the checkpoint"):
        checkpoints.restore(tmp_path, on_device(STATE | {"table": table}), epochs=1)


def test_checksums_tell_values_and_places_apart():
    base = checkpoints.checksums(on_device())
    swapped = STATE | {"table": STATE["table"][[1, 0, 2, 3]]}
    flipped = jax.tree.map(np.copy, STATE)
    flipped["table"].view(np.uint32)[2, 1] ^= 1 << 31
    assert (
        len(
            {tuple(base), *(tuple(checkpoints.checksums(on_device(s))) for s in (swapped, flipped))}
        )
        == 3
    )
    # By hand: a sum of bits x (2 place + 1), modulo 2**32.
    bits = STATE["table"].ravel().view(np.uint32)
    places = 2 * np.arange(12, dtype=np.uint32) + 1
    assert base[1] == int((bits * places).sum(dtype=np.uint32))
    assert base[0] == checkpoints.checksums([jnp.asarray(STATE["bias"])])[0]
