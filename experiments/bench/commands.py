"""Rows of the benchmark about whole commands, each measured in a process of its own."""

from __future__ import annotations

import concurrent.futures
import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from hrnn_jax.files import provenance
from hrnn_jax.preprocess import datasets, prepared

from ..training.epochs import FIRST_CHUNK
from .benchmark_model import INIT_SMALL, random_log
from .process import Cost, measure, of_module
from .record import Row
from .timing import Settings, seconds

# What any preprocessing has to do.
READ_AND_SORT = "import polars, sys; polars.read_parquet(sys.argv[1]).sort('user_id', 'ts')"
BIG_CATALOGUE, BIG_USERS = 380_000, 8_000  # with more training events than items
BEGIN = 1_500_000_000  # of drawn logs, Unix seconds
USERS_PARTS = {  # of the rows of `users`
    "training": "10 epochs",
    "evaluation": "evaluation",
    "whole": "from the command to its end",
}


def raw_log(settings: Settings, scale: float) -> pathlib.Path:
    """Return the path of a simulated log of VIDEOXXL's shape, which is made if it is missing."""
    simulation = datasets.Simulation("videoxxl", simulate_scale=scale)
    return datasets.source("simulated", settings.prepared, simulation=simulation).path


def prepare(settings: Settings, raw: pathlib.Path) -> Cost:
    """Measure the preparation of a raw log."""
    with settings.folder() as folder:
        log, output = f"--events={raw.absolute()}", f"--prepared_dir={folder}"
        return measure(*of_module("describe", "--dataset=events", log, output))


def preprocessing(settings: Settings) -> Mapping[str, Row]:
    """Measure the preparation of VIDEOXXL's shape next to reading and sorting the file."""
    raw = raw_log(settings, settings.scale)
    costs, floor = settings.turns(
        lambda: prepare(settings, raw), lambda: measure("-c", READ_AND_SORT, str(raw)), long=True
    )
    times, peaks = [cost.seconds for cost in costs], [cost.peak_bytes for cost in costs]
    floor_times = [cost.seconds for cost in floor]
    events = pl.scan_parquet(raw, glob=False).select(pl.len()).collect().item()
    what = f"preprocessing VIDEOXXL's shape, {events:,} raw events"
    notes = ["each turn a process, its start included"]
    name = "polars reads and sorts the file"
    return {
        "time": Row(what, times, floor_times, name, 3, notes=notes),
        "memory": Row(f"{what}: peak resident memory", peaks, unit="B", limit=6e9),
    }


def whole_run(settings: Settings) -> Mapping[str, Row]:
    """Measure the peak memory of a run on many items next to its tables and optimizer state."""
    n_items = max(2, round(settings.scale * BIG_CATALOGUE))
    users = max(5, round(settings.scale * BIG_USERS))
    with settings.folder() as folder:
        write_log(folder, users, n_items)
        [costs] = settings.turns(lambda: run(folder), long=True, warm_up=False)
        [ready] = (folder / "prepared").glob("events-*")
        kept = prepared.load_meta(ready)["table1"]["items"]
    floor = [INIT_SMALL.replace(n_items=kept).state_bytes] * len(costs)
    notes = ["preprocessing, an epoch, checkpoint and ranking"]
    what = f"peak resident memory of a whole run, {kept:,} items, 100 units"
    name, peaks = "tables + optimizer state", [cost.peak_bytes for cost in costs]
    return {"": Row(what, peaks, floor, name, 1.5, unit="B", notes=notes)}


def write_log(folder: pathlib.Path, users: int, n_items: int) -> None:
    """Draw a raw log, log.parquet, in which each item has as many training events."""
    rng = np.random.default_rng(0)
    log = random_log(rng, users, n_items, tested=True)
    item = rng.integers(log.n_items, size=len(log))
    train = np.flatnonzero(~log.test)
    item[train] = rng.permutation(len(train)) % log.n_items
    time = log.time.astype(np.int64) + BEGIN
    columns = {"user_id": log.user, "session_id": log.session, "item_id": item, "ts": time}
    pl.DataFrame(columns).write_parquet(folder / "log.parquet")


def run(folder: pathlib.Path) -> Cost:
    """Run HRNN Init on the folder's log.parquet for an epoch; the run folder is `run` in it."""
    shutil.rmtree(folder / "run", ignore_errors=True)
    flags = [
        "--dataset=events",
        f"--events={folder / 'log.parquet'}",
        "--session_column=session_id",
        "--min_support=1",
        f"--prepared_dir={folder / 'prepared'}",
        "--model=hrnn_init",
        "--epochs=1",
        f"--output_dir={folder / 'run'}",
    ]
    return measure(*of_module("run", *flags), cache=folder / "cache")


def _run_simulated(
    settings: Settings, shape: str, output: pathlib.Path, *flags: str, **how: Any
) -> Cost:
    """Run HRNN Init small on a simulated log; `how` are arguments of `measure`."""
    log = [
        "--dataset=simulated",
        f"--simulate_shape={shape}",
        f"--simulate_scale={settings.scale}",
        f"--prepared_dir={settings.prepared}",
    ]
    of_run = ["--flagfile=hrnn_init_small.flags", *flags, f"--output_dir={output}"]
    return measure(*of_module("run", *log, *of_run), **how)


def start(settings: Settings) -> Mapping[str, Row]:
    """Measure the start of a run, with and without compiled programs on disk."""

    def to_first_chunk(cache: pathlib.Path | None = None) -> float:
        with settings.folder() as folder:
            how = {"cache": cache or folder / "cache", "until": FIRST_CHUNK}
            return _run_simulated(settings, "video", folder / "run", **how).seconds

    with settings.folder() as cache:
        cold, warm = settings.turns(to_first_chunk, lambda: to_first_chunk(cache))
    what = "start of a run on the prepared VIDEO shape to its first 256 steps trained"
    return {
        "cold": Row(f"{what}, nothing compiled", cold, limit=10),
        "warm": Row(f"{what}, compilation cache filled", warm, limit=4),
    }


def seeds(settings: Settings) -> Mapping[str, Row]:
    """Measure two seeds as two runs, in turn or side by side, and as one run."""

    def runs(cache: pathlib.Path, seeds_of: list[str], side_by_side: int) -> float:
        """Run each value of --seeds; return the seconds."""

        def run(chosen: str) -> None:
            with settings.folder() as folder:
                flags = ["--epochs=3", f"--seeds={chosen}"]
                how = {"cache": cache, "share": side_by_side}
                _run_simulated(settings, "video", folder / "run", *flags, **how)

        with concurrent.futures.ThreadPoolExecutor(side_by_side) as threads:
            return seconds(lambda: list(threads.map(run, seeds_of)))

    with settings.folder() as cache:
        in_turn, side_by_side, one_program = settings.turns(
            lambda: runs(cache, ["0", "1"], 1),
            lambda: runs(cache, ["0", "1"], 2),
            lambda: runs(cache, ["0,1"], 1),
            long=True,
        )
    of = "two seeds of HRNN Init small, 3 epochs on the VIDEO shape"
    name = "one run after the other"
    threads = max(1, provenance.cores() // 2)
    jobs = f"JOBS=2, {threads} thread{'s' if threads > 1 else ''} each"
    return {
        "jobs": Row(f"{of}: {name}", in_turn, side_by_side, jobs, 1.8, at_least=True),
        "in_one_program": Row(f"{of}: --seeds=0,1", one_program, in_turn, name, 1.0),
    }


def users(settings: Settings) -> Mapping[str, Row]:
    """Measure how long Table 2's small HRNN Init trains and is evaluated, on two shapes."""

    def run_on(shape: str) -> tuple[float, ...]:
        """Return the seconds of `USERS_PARTS`, and the number of cases."""
        with settings.folder() as folder:
            output = folder / "run"
            cost = _run_simulated(settings, shape, output, cache=folder / "cache")
            mean = json.loads((output / "metrics.json").read_text())["mean"]
        evaluation = mean["cases"] / mean["eval_cases_per_second"] + mean["eval_compile_seconds"]
        return mean["train_seconds"], evaluation, cost.seconds, mean["cases"]

    rows = {}
    for shape in ("xing", "video"):
        [turns] = settings.turns(lambda shape=shape: run_on(shape), long=True, warm_up=False)
        *measured, cases = zip(*turns, strict=True)
        for (part, what), values in zip(USERS_PARTS.items(), measured, strict=True):
            what = f"HRNN Init small on the {shape.upper()} shape: {what}"
            rows[f"{shape}_{part}"] = Row(what, values, notes=[f"{cases[0]:,.0f} cases"])
    return rows
