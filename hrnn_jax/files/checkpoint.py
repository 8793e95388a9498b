"""Checkpoints of a run's training state, and the trained network that a run folder holds."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import zlib
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from hrnn_jax.arguments import path_of
from hrnn_jax.config import LOSSES, NETWORKS, ModelConfig, TrainConfig
from hrnn_jax.errors import InputError, reason
from hrnn_jax.files.recipe_formats import upgrade_recipe
from hrnn_jax.model import Params
from hrnn_jax.preprocess import prepared
from hrnn_jax.repeat_explore import mixture as mixtures
from hrnn_jax.repeat_explore import neighbours
from hrnn_jax.repeat_explore.mixture import FittedMixture
from hrnn_jax.training.train import TrainState, init_state

RECIPE, DATA = "recipe.json", prepared.KEPT_META  # of a run folder
KEPT = 2  # the newest, and the one before in case the newest is damaged
_CHECKSUMS = "crc32"  # in the checkpoint's metadata, of each array in the order of the state


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A trained network as its run folder holds it, except for the weights."""

    folder: pathlib.Path
    seed: int
    epochs: int
    config: ModelConfig
    items: Sequence[int | str]  # [V] raw ids
    gap_seconds: float  # a longer idle time opens a session
    drop_repeats: bool  # an item counts once in a session
    lineage: tuple[str, ...]  # fingerprints of these weights and of those that they continue
    mixture: FittedMixture | None = None  # of a network with `places`
    any_year: bool = True  # events may be before 1990 or after tomorrow, as those of its log

    def excludes_session_items(self, given: bool | None) -> bool:
        """Tell whether lists leave out the items of the open session.

        given: what was asked for; None for the default, which is that of a log without repeats.
        """
        return self.drop_repeats if given is None else given


@contextlib.contextmanager
def _manager(folder: pathlib.Path, *, saves: bool = False) -> Generator[ocp.CheckpointManager]:
    # Of several processes, each reads and writes by itself.
    alone = ocp.options.MultiprocessingOptions()
    if jax.process_count() > 1:
        me = jax.process_index()
        alone = ocp.options.MultiprocessingOptions(me, {me}, f"process_{me}")
    if saves:
        folder.mkdir(parents=True, exist_ok=True)
    # Not asynchronous: the next update donates, and so overwrites, the buffers to be written.
    options = ocp.CheckpointManagerOptions(
        max_to_keep=KEPT,
        enable_async_checkpointing=False,
        cleanup_tmp_directories=saves,  # of an interrupted save; to a reader it may be under way
        create=False,
        multiprocessing_options=alone,
    )
    # Compressed, weights lose a tenth of their size, but are all held once more to be written.
    handler = ocp.PyTreeCheckpointHandler(use_compression=False, multiprocessing_options=alone)
    try:
        made = ocp.CheckpointManager(folder.absolute(), item_handlers=handler, options=options)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"cannot read the checkpoints in {folder} ({reason(error)}); remove the damaged one"
        ) from error
    with made as manager:
        yield manager


def folder(run: pathlib.Path, seed: int) -> pathlib.Path:
    """Return the folder of a seed's checkpoints in a run folder."""
    return run / "checkpoint" / f"seed_{seed}"


def seeds(run: pathlib.Path) -> list[int]:
    """List the seeds that a run folder has checkpoints of."""
    names = [path.name.removeprefix("seed_") for path in (run / "checkpoint").glob("seed_*")]
    return sorted(int(name) for name in names if name.isdecimal())


def save(folder: pathlib.Path, state: TrainState, *, epochs: int) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        folder: of the seed's checkpoints, see `folder`.
        state: of one seed.
        epochs: after how many epochs the state is.

    Raises:
        InputError: the checkpoint cannot be written; the earlier ones stay.
    """
    metadata: dict[str, Any] = {_CHECKSUMS: [_checksum(leaf) for leaf in jax.tree.leaves(state)]}
    try:
        with _manager(folder, saves=True) as manager:
            manager.save(epochs, args=ocp.args.PyTreeSave(state, custom_metadata=metadata))
    except Exception as error:  # the writer raises many types for a full disk
        raise cannot_write(folder, epochs, error) from error


def latest(folder: pathlib.Path) -> int | None:
    """Return after how many epochs the newest checkpoint of a seed was saved, None without one."""
    if not folder.is_dir():
        return None
    with _manager(folder) as manager:
        return manager.latest_step()


def restore(folder: pathlib.Path, like: TrainState, *, epochs: int) -> TrainState:
    """Read a checkpoint onto the device.

    Args:
        folder: of the seed's checkpoints.
        like: a state, or shapes and dtypes in its place, of the structure that is expected.
        epochs: after how many epochs the state was saved.

    Raises:
        InputError: the checkpoint is missing, damaged or of another model.
    """
    return _restored(folder, like, like, epochs=epochs)


def restore_params(folder: pathlib.Path, like: TrainState, *, epochs: int) -> Params:
    """Read the weights of a checkpoint alone, a third of its bytes, see `restore`."""
    nothing = jax.tree.map(lambda _: None, like.opt_state)
    weights = dataclasses.replace(like, opt_state=nothing)
    return _restored(folder, like, weights, epochs=epochs).params


def _restored(
    folder: pathlib.Path, like: TrainState, part: TrainState, *, epochs: int
) -> TrainState:
    """Read `part`, the first arrays of `like`; the others are None in it."""
    expected, structure = jax.tree.flatten(part)
    with _manager(folder) as manager:
        try:
            metadata = manager.item_metadata(epochs)
            # The reader ignores weights that it was not asked for.
            if len(jax.tree.leaves(metadata)) != len(jax.tree.leaves(like)):
                raise ValueError("it holds other weights than this model has")
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), part)
            # Partial, for weights that only other networks have are None in `like`.
            args = ocp.args.PyTreeRestore(part, restore_args=as_numpy, partial_restore=True)
            leaves = jax.tree.leaves(manager.restore(epochs, args=args))
            saved_with = metadata.custom_metadata  # nothing in checkpoints of version 0.1.0
            for leaf, one in zip(leaves, expected, strict=True):
                if (leaf.shape, leaf.dtype) != (one.shape, one.dtype):
                    raise ValueError("its weights have other shapes than this model's")
            checksums = [_checksum(leaf) for leaf in leaves]
            saved = (saved_with or {}).get(_CHECKSUMS) or []
            if saved_with and saved[: len(leaves)] != checksums:
                raise ValueError("its weights are not those that were saved")
        except Exception as error:  # the reader has no error of its own for a damaged file
            raise cannot_read(folder, epochs, error) from error
    # One by one, so that memory holds no second state. The reader read numpy arrays: its own jax
    # arrays would be committed to a device, and the training step be compiled once more for them.
    for i, leaf in enumerate(leaves):
        leaves[i] = jax.device_put(leaf)
    return jax.tree.unflatten(structure, leaves)


def cannot_write(folder: pathlib.Path, epochs: int, error: Exception) -> InputError:
    """Return the error of a checkpoint that could not be written."""
    return InputError(
        f"cannot write the checkpoint {folder / str(epochs)} ({reason(error)}); "
        "make room there, then continue from the one before with `resume`"
    )


def cannot_read(folder: pathlib.Path, epochs: int, error: Exception) -> InputError:
    """Return the error of a checkpoint that is damaged or of another model."""
    return InputError(
        f"cannot read the checkpoint {folder / str(epochs)} ({reason(error)}); "
        "remove that folder to resume from the one before"
    )


def load_run(
    run: pathlib.Path | str, *, seed: int | None = None, epochs: int | None = None
) -> tuple[TrainedRun, Params]:
    """Load a trained network from its run folder.

    Args:
        run: the run folder.
        seed: one of the run's seeds; by default the first that has a checkpoint.
        epochs: after how many epochs; by default the newest checkpoint.

    Returns:
        The run's description and the weights.

    Raises:
        InputError: names the file, where the folder is no run of a network or is damaged.
    """
    run = path_of("`run`", run)
    settings, training, ancestors = _read_settings(run)
    config = settings["config"]
    items = prepared.load_items(run)
    if len(items) != config.n_items:
        raise InputError(
            f"{run / prepared.ITEMS} holds {len(items)} items, not the {config.n_items} of "
            f"{RECIPE}: it is of another run"
        )
    seed = min(seeds(run), default=0) if seed is None else seed
    checkpoints = folder(run, seed)
    newest = latest(checkpoints)
    if newest is None:
        raise InputError(
            f"{checkpoints} holds no checkpoint: train the run for an epoch, or give another seed"
        )
    epochs = newest if epochs is None else epochs
    like: Any = jax.eval_shape(lambda: init_state(0, config, training))
    params = restore_params(checkpoints, like, epochs=epochs)
    lineage = (fingerprint(params), *ancestors.get(str(seed), ()))
    mixture = None
    if config.places:
        weights = mixtures.load(mixtures.file(run, seed), epochs=epochs)
        mixture = FittedMixture(weights, neighbours.load(run / neighbours.FILE))
    trained = TrainedRun(
        folder=run,
        seed=seed,
        epochs=epochs,
        items=items,
        lineage=lineage,
        mixture=mixture,
        **settings,
    )
    return trained, params


def _read_settings(run: pathlib.Path) -> tuple[dict[str, Any], TrainConfig, Mapping[str, Any]]:
    """Return fields of TrainedRun, the training's settings, and each seed's earlier weights."""
    recipe = _read_json(run, RECIPE)
    try:
        with _naming(run / RECIPE):
            recipe = upgrade_recipe(recipe)
        network = dict(recipe["model"])
        name = network.pop("name")
        if name not in NETWORKS:
            raise InputError(
                f"{run} is a run of {name}, a counting model: it has neither weights nor states of "
                "live users; give the run folder of a network"
            )
        training: dict[str, Any] = dict(recipe["training"])
        if training["loss"] not in LOSSES:  # one that is registered only where it was trained
            training["loss"] = TrainConfig.loss
        with _naming(run / RECIPE):
            model_config, train_config = ModelConfig(**network), TrainConfig(**training)
        data = _read_json(run, DATA)  # a run of another model has none
        settings = {
            "config": model_config,
            "gap_seconds": 60 * data["recipe"]["session_gap_minutes"],
            "drop_repeats": data["recipe"]["drop_repeats"],
            "any_year": takes_any_year(data),
        }
        ancestors = recipe.get("continued_from", {}).get("weights", {})
        return settings, train_config, ancestors
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{run / RECIPE} or {DATA} next to it is damaged ({error!r}): train the run again"
        ) from error


@contextlib.contextmanager
def _naming(file: pathlib.Path) -> Generator[None]:
    """Say in which file a setting is that is refused."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def takes_any_year(meta: Mapping[str, Any]) -> bool:
    """Tell whether a prepared log may have times of any year; earlier versions checked none.

    meta: the content of its meta.json.
    """
    return "skipped" not in meta or meta["reading"].get("any_year", False)


def fingerprint(params: Params) -> str:
    """Return 16 hexadecimal digits that identify these weights."""
    parts = [(_checksum(leaf), leaf.shape) for leaf in jax.tree.leaves(params)]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _checksum(leaf: jax.Array | np.ndarray) -> int:
    """Return the CRC-32 of an array: damaged bytes would otherwise pass for other weights."""
    return zlib.crc32(np.ascontiguousarray(leaf).data)


def _read_json(run: pathlib.Path, name: str) -> dict[str, Any]:
    path = run / name
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        if not (run / RECIPE).exists():
            raise InputError(
                f"{run} is no run folder, it has no {RECIPE}: give the `output_dir` of a run"
            ) from error
        raise InputError(
            f"{path} is missing: repeat the command of the run with `resume`"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is damaged or cannot be read ({reason(error)}): train the run again"
        ) from error
