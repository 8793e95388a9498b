"""Rows of the benchmark about whole commands, each measured in a process of its own."""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from hrnn_jax import errors
from hrnn_jax.preprocess import datasets, prepared

from ..common import provenance
from ..common.cli import module
from ..common.epochs import FIRST_CHUNK
from ..jobs import pool
from .benchmark_model import INIT_SMALL, random_log
from .process import Cost, measure, of_module
from .record import Row
from .timing import Settings

# What any preprocessing has to do.
READ_AND_SORT = "import polars, sys; polars.read_parquet(sys.argv[1]).sort('user_id', 'ts')"
BIG_CATALOGUE, BIG_USERS = 380_000, 8_000  # with more training events than items


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

    def read_and_sort() -> Cost:
        return measure("-c", READ_AND_SORT, str(raw))

    read_and_sort()  # from here on the operating system has the file in memory
    costs, floor = settings.turns(
        lambda: prepare(settings, raw), read_and_sort, long=True, warm_up=False
    )
    events = pl.scan_parquet(raw).select(pl.len()).collect().item()
    what = f"preprocessing VIDEOXXL's shape, {events:,} raw events"
    seconds, peaks = zip(*costs, strict=True)
    return {
        "time": Row(
            what,
            seconds,
            [cost.seconds for cost in floor],
            "polars reads and sorts the file",
            3,
            notes=["each turn a process, its start included"],
        ),
        "memory": Row(f"{what}: peak resident memory", peaks, unit="B", limit=6e9),
    }


def whole_run(settings: Settings) -> Mapping[str, Row]:
    """Measure the peak memory of a run on many items next to its tables and optimizer state."""
    n_items = max(2, round(settings.scale * BIG_CATALOGUE))
    users = max(5, round(settings.scale * BIG_USERS))
    peaks = []
    with settings.folder() as folder:
        write_log(folder, users, n_items)
        for turn in range(1, settings.long_repeats + 1):
            cost = run(folder, folder / "run" / str(turn))
            peaks.append(cost.peak_bytes)
            settings.print(f"run {turn} of {settings.long_repeats}, {cost.seconds:.0f} s")
        [ready] = (folder / "prepared").glob("events-*")
        kept = prepared.load_meta(ready)["table1"]["items"]
    held = INIT_SMALL.replace(n_items=kept).state_bytes
    notes = ["preprocessing, an epoch, checkpoint and ranking"]
    what = f"peak resident memory of a whole run, {kept:,} items, 100 units"
    name = "tables + optimizer state"
    return {"": Row(what, peaks, [held] * len(peaks), name, 1.5, unit="B", notes=notes)}


def write_log(folder: pathlib.Path, users: int, n_items: int) -> None:
    """Draw a raw log, log.parquet, in which each item has as many training events."""
    rng = np.random.default_rng(0)
    log = random_log(rng, users, n_items, tested=True)
    item = rng.integers(log.n_items, size=len(log))
    train = np.flatnonzero(~log.test)
    item[train] = rng.permutation(len(train)) % log.n_items
    columns = {"user_id": log.user, "session_id": log.session, "item_id": item, "ts": log.time}
    pl.DataFrame(columns).write_parquet(folder / "log.parquet")


def run(folder: pathlib.Path, output: pathlib.Path) -> Cost:
    """Run HRNN Init on the folder's log.parquet for an epoch."""
    flags = [
        "--dataset=events",
        f"--events={folder / 'log.parquet'}",
        "--session_column=session_id",
        "--min_support=1",
        f"--prepared_dir={folder / 'prepared'}",
        "--model=hrnn_init",
        "--epochs=1",
        f"--output_dir={output}",
    ]
    return measure(*of_module("run", *flags), cache=folder / "cache")


def _simulated(settings: Settings, shape: str) -> list[str]:
    """Return the flags of HRNN Init small on a simulated log."""
    return [
        "--dataset=simulated",
        f"--simulate_shape={shape}",
        f"--simulate_scale={settings.scale}",
        f"--prepared_dir={settings.prepared}",
        "--flagfile=hrnn_init_small.flags",
    ]


def first_chunk(flags: Sequence[str], cache: pathlib.Path, output: pathlib.Path) -> float:
    """Measure the seconds from a run's start until its first chunk of steps is trained."""
    command = of_module("run", *flags, f"--output_dir={output}")
    return measure(*command, cache=cache, until=FIRST_CHUNK).seconds


def start(settings: Settings) -> Mapping[str, Row]:
    """Measure the start of a run, with and without compiled programs on disk."""
    flags = _simulated(settings, "video")

    def seconds_to_first_chunk(cache: pathlib.Path | None = None) -> float:
        with settings.folder() as folder:
            return first_chunk(flags, cache or folder / "cache", folder / "run")

    with settings.folder() as cache:
        cold, warm = settings.turns(seconds_to_first_chunk, lambda: seconds_to_first_chunk(cache))
    what = "start of a run on the prepared VIDEO shape to its first 256 steps trained"
    return {
        "cold": Row(f"{what}, nothing compiled", cold, limit=10),
        "warm": Row(f"{what}, compilation cache filled", warm, limit=4),
    }


def seeds(settings: Settings) -> Mapping[str, Row]:
    """Measure two seeds as two runs, in turn or side by side, and as one run."""
    flags = [*_simulated(settings, "video"), "--epochs=3"]

    def run_jobs(cache: pathlib.Path, seeds_of: Sequence[str], side_by_side: int) -> float:
        """Run a job for each value of --seeds, as `reproduce` does; return the seconds."""
        with settings.folder() as folder:
            jobs = []
            for number, chosen in enumerate(seeds_of):
                output = folder / str(number)
                of_job = [f"--compilation_cache={cache}", f"--seeds={chosen}"]
                argv = (module("run"), *flags, *of_job, f"--output_dir={output}")
                jobs.append(pool.Job(chosen, argv, output))
            started = time.perf_counter()
            for outcome in pool.run(jobs, side_by_side=side_by_side):
                if outcome.error:
                    raise errors.InputError(outcome.error)
            return time.perf_counter() - started

    with settings.folder() as kept:
        cache = kept / "cache"
        in_turn, side_by_side, one_program = settings.turns(
            lambda: run_jobs(cache, ["0", "1"], 1),
            lambda: run_jobs(cache, ["0", "1"], 2),
            lambda: run_jobs(cache, ["0,1"], 1),
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
    rows = {}
    for shape in ("xing", "video"):
        costs = []
        for turn in range(1, settings.long_repeats + 1):
            with settings.folder() as folder:
                output = folder / "run"
                flags = [*_simulated(settings, shape), f"--output_dir={output}"]
                cost = measure(*of_module("run", *flags), cache=folder / "cache")
                mean = json.loads((output / "metrics.json").read_text())["mean"]
            evaluation = mean["cases"] / mean["eval_cases_per_second"]
            costs.append((mean["train_seconds"], evaluation, cost.seconds))
            settings.print(
                f"{shape} {turn} of {settings.long_repeats}: trained in {costs[-1][0]:.0f} s, "
                f"evaluated in {evaluation:.0f} s"
            )
        of = f"HRNN Init small on the {shape.upper()} shape"
        parts = {
            "training": "10 epochs",
            "evaluation": "evaluation",
            "whole": "from the command to its end",
        }
        notes = [f"{mean['cases']:,.0f} cases"]
        for (part, what), measured in zip(parts.items(), zip(*costs, strict=True), strict=True):
            rows[f"{shape}_{part}"] = Row(f"{of}: {what}", measured, notes=notes)
    return rows
