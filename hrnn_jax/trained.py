"""A trained network as its run folder holds it: all that recommending with it needs."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax

from hrnn_jax import checkpoint, errors, model, train
from hrnn_jax.config import NETWORKS, ModelConfig, TrainConfig, upgrade_recipe
from hrnn_jax.extras import item_neighbours
from hrnn_jax.preprocess import prepared

RECIPE, DATA = "recipe.json", prepared.KEPT_META  # of a run folder


@dataclasses.dataclass(frozen=True)
class Trained:
    """What there is to know of one seed's network after some epochs, but for its weights."""

    folder: pathlib.Path
    seed: int
    epochs: int
    config: ModelConfig
    items: Sequence[int | str]  # [V] raw ids
    gap_seconds: float  # idle for longer opens a session
    drop_repeats: bool  # an item counts once in a session
    lineage: tuple[str, ...]  # fingerprints of these weights and of those that they went on from
    table: item_neighbours.Table | None = None  # of a network with `neighbours`


def load(
    folder: pathlib.Path | str, *, seed: int | None = None, epochs: int | None = None
) -> tuple[Trained, model.Params]:
    """Load a network from its run folder: the newest checkpoint of its first seed by default.

    Raises InputError, naming the file, where the folder is not a network's run or is damaged.
    """
    folder = pathlib.Path(folder)
    recipe, data = _read(folder, RECIPE), _read(folder, DATA)
    try:
        recipe = upgrade_recipe(recipe)
        named = dict(recipe["model"])
        name = named.pop("name")
        if name not in NETWORKS:
            raise errors.InputError(f"{folder} is a run of {name}, which counts: give a network's")
        config, how = ModelConfig(**named), TrainConfig(**recipe["training"])
        cut = data["recipe"]
        gap_seconds, drop_repeats = 60 * cut["session_gap_minutes"], cut["drop_repeats"]
        ancestors = recipe.get("continued_from", {}).get("weights", {})
    except (KeyError, TypeError, AttributeError) as error:
        raise errors.InputError(
            f"{folder / RECIPE} or {DATA} beside it is damaged ({error!r}): train the run anew"
        ) from error
    items = prepared.load_items(folder)
    if len(items) != config.n_items:
        raise errors.InputError(
            f"{folder / prepared.ITEMS} holds {len(items)} items, not the {config.n_items} of "
            f"{RECIPE}: it is of another run"
        )
    seed = min(checkpoint.seeds(folder), default=0) if seed is None else seed
    checkpoints = checkpoint.folder(folder, seed)
    newest = checkpoint.latest(checkpoints)
    if not newest:
        raise errors.InputError(
            f"{checkpoints} holds no checkpoint: train the run for an epoch, or give another seed"
        )
    epochs = newest if epochs is None else epochs
    like: Any = jax.eval_shape(lambda: train.init_state(0, config, how))
    params = checkpoint.restore(checkpoints, like, epochs=epochs).params
    lineage = (checkpoint.fingerprint(params), *ancestors.get(str(seed), ()))
    table = item_neighbours.load(folder / item_neighbours.FILE) if config.neighbours else None
    about = Trained(
        folder=folder,
        seed=seed,
        epochs=epochs,
        config=config,
        items=items,
        gap_seconds=gap_seconds,
        drop_repeats=drop_repeats,
        lineage=lineage,
        table=table,
    )
    return about, params


def _read(folder: pathlib.Path, name: str) -> dict[str, Any]:
    path = folder / name
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        if not (folder / RECIPE).exists():
            raise errors.InputError(
                f"{folder} is no run folder, it has no {RECIPE}: give the --output_dir of a run"
            ) from error
        raise errors.InputError(
            f"{path} is missing: end the run with this version, by the command that began it "
            "and --resume"
        ) from error
    except (OSError, ValueError) as error:
        raise errors.InputError(
            f"{path} is damaged or cannot be read ({error}): train the run anew"
        ) from error
