"""Rows of the benchmark on whole commands of this project, each a process of its own."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
from collections.abc import Sequence

import numpy as np
import polars as pl

from hrnn_jax import errors
from hrnn_jax.preprocess import datasets, prepared

from ..common import machine
from ..common.package import module
from ..jobs import pool
from . import children, measures, steps
from .measures import Found, Row, Settings

# What preprocessing cannot do without.
READ_AND_SORT = "import polars, sys; polars.read_parquet(sys.argv[1]).sort('user_id', 'ts')"
BIG_CATALOGUE, BIG_USERS = 380_000, 8_000  # with more training events than items


def simulated(settings: Settings, shape: str) -> list[str]:
    """Return the flags of a simulated log, of all its users times the scale."""
    return [
        "--dataset=simulated",
        f"--simulate_shape={shape}",
        f"--simulate_scale={settings.scale}",
        f"--prepared_dir={settings.prepared}",
    ]


def preprocessing(settings: Settings) -> Found:
    """Measure the preparation of VIDEOXXL's shape against reading and sorting it."""
    raw = raw_log(settings, settings.scale)
    read_and_sort(settings, raw)  # from here on the file is in memory for both
    taken, floor = measures.take_turns(
        [lambda: prepare(settings, raw), lambda: read_and_sort(settings, raw)],
        repeats=settings.long_repeats,
        say=settings.say,
        warm_up=False,
    )
    events = pl.scan_parquet(raw).select(pl.len()).collect().item()
    what = f"preprocessing VIDEOXXL's shape, {events:,} raw events"
    notes = ["each turn a process, its start included"]
    return {
        "time": Row(
            what,
            "s",
            [t.seconds for t in taken],
            [t.seconds for t in floor],
            "polars reads and sorts the file",
            3,
            notes=notes,
        ),
        "memory": _peak(f"{what}: peak resident memory", taken, 6e9),
    }


def raw_log(settings: Settings, scale: float) -> pathlib.Path:
    """Simulate a log of VIDEOXXL's shape, or find it."""
    return datasets.source("simulated", settings.prepared, shape="videoxxl", scale=scale).path


def prepare(settings: Settings, raw: pathlib.Path) -> children.Taken:
    """Prepare a raw log into a folder that is then dropped."""
    with children.scratch(settings.scratch) as folder:
        return children.command(
            module("describe"),
            "--dataset=events",
            f"--events={raw.absolute()}",
            f"--prepared_dir={folder / 'prepared'}",
            folder=folder,
            cache=folder / "cache",
        )


def read_and_sort(settings: Settings, raw: pathlib.Path) -> children.Taken:
    with children.scratch(settings.scratch) as folder:
        arguments, started = ["-c", READ_AND_SORT, str(raw)], time.perf_counter()
        children.run(arguments, log=folder / "log")
        return children.Taken(time.perf_counter() - started, peak_bytes=None)


def _peak(what: str, taken: Sequence[children.Taken], limit: float) -> Row:
    peaks = [t.peak_bytes for t in taken if t.peak_bytes is not None]
    notes = [] if peaks else ["this system does not tell a process's peak"]
    return Row(what, "B", peaks, limit=limit, notes=notes)


def whole_run(settings: Settings) -> Found:
    """Measure the peak of a run on a large catalogue against its tables and optimizer state."""
    n_items = max(2, round(settings.scale * BIG_CATALOGUE))
    users = max(5, round(settings.scale * BIG_USERS))
    with children.scratch(settings.scratch) as folder:
        write_log(folder, users, n_items)
        taken = []
        for turn in range(settings.long_repeats):
            taken.append(run(folder, folder / "run" / str(turn)))
            settings.say(f"run {turn + 1} of {settings.long_repeats}, {taken[-1].seconds:.0f} s")
        [ready] = (folder / "prepared").glob("events-*")
        kept = prepared.load_meta(ready)["table1"]["items"]
    network = dataclasses.replace(steps.INIT_SMALL, n_items=kept)
    held = steps.state_bytes(network)
    peaks = [t.peak_bytes for t in taken if t.peak_bytes is not None]
    notes = ["preprocessing, an epoch, checkpoint and ranking"]
    what = f"peak resident memory of a whole run, {kept:,} items, 100 units"
    name = "tables + optimizer state"
    return {"": Row(what, "B", peaks, [held] * len(peaks), name, 1.5, notes=notes)}


def write_log(folder: pathlib.Path, users: int, n_items: int) -> None:
    """Draw a raw log in which all items are trained on, the same number of times."""
    rng = np.random.default_rng(0)
    log = steps.random_log(rng, users, n_items, tested=True)
    item = rng.integers(log.n_items, size=len(log))
    train = np.flatnonzero(~log.test)
    item[train] = rng.permutation(len(train)) % log.n_items
    columns = {"user_id": log.user, "session_id": log.session, "item_id": item, "ts": log.time}
    pl.DataFrame(columns).write_parquet(folder / "log.parquet")


def run(folder: pathlib.Path, output: pathlib.Path) -> children.Taken:
    """Run HRNN Init on the drawn log for an epoch."""
    return children.command(
        module("run"),
        "--dataset=events",
        f"--events={folder / 'log.parquet'}",
        "--session_column=session_id",
        "--min_support=1",
        f"--prepared_dir={folder / 'prepared'}",
        "--model=hrnn_init",
        "--epochs=1",
        f"--output_dir={output}",
        folder=folder,
        cache=folder / "cache",
    )


def start(settings: Settings) -> Found:
    """Measure the time from a process's start until its first chunk of steps is trained."""
    flags = [*simulated(settings, "video"), "--flagfile=hrnn_init_small.flags"]

    def first_chunk(cache: pathlib.Path, folder: pathlib.Path) -> float:
        output = f"--output_dir={folder / 'run'}"
        return children.command(
            module("run"), *flags, output, folder=folder, cache=cache, until="chunk"
        ).seconds

    with children.scratch(settings.scratch) as kept:

        def cold() -> float:
            with children.scratch(settings.scratch) as folder:
                return first_chunk(folder / "cache", folder)

        def warm() -> float:
            with children.scratch(settings.scratch) as folder:
                return first_chunk(kept / "cache", folder)

        taken = measures.take_turns([cold, warm], repeats=settings.repeats, say=settings.say)
    what = "start of a run on the prepared VIDEO shape to its first 256 steps trained"
    return {
        "cold": Row(f"{what}, nothing compiled", "s", taken[0], limit=10),
        "warm": Row(f"{what}, compilation cache filled", "s", taken[1], limit=4),
    }


def seeds(settings: Settings) -> Found:
    """Measure two seeds side by side, and in one program, against one run after the other."""
    flags = [*simulated(settings, "video"), "--flagfile=hrnn_init_small.flags", "--epochs=3"]

    def runs(cache: pathlib.Path, each: Sequence[str], side_by_side: int) -> float:
        """Run the jobs, each with its --seeds, as reproduce does."""
        kept = f"--compilation_cache={cache}"
        with children.scratch(settings.scratch) as folder:
            jobs = []
            for n, chosen in enumerate(each):
                here = folder / str(n)
                argv = (
                    module("run"),
                    *flags,
                    kept,
                    f"--seeds={chosen}",
                    f"--output_dir={here}",
                )
                jobs.append(pool.Job(chosen, argv, here))
            started = time.perf_counter()
            for outcome in pool.run(jobs, side_by_side=side_by_side):
                if outcome.error:
                    raise errors.InputError(outcome.error)
            return time.perf_counter() - started

    with children.scratch(settings.scratch) as kept:
        cache = kept / "cache"
        after, beside, together = measures.take_turns(
            [
                lambda: runs(cache, ["0", "1"], 1),
                lambda: runs(cache, ["0", "1"], 2),
                lambda: runs(cache, ["0,1"], 1),
            ],
            repeats=settings.long_repeats,
            say=settings.say,
        )
    of = "two seeds of HRNN Init small, 3 epochs on the VIDEO shape"
    threads = max(1, machine.cores() // 2)
    beside_name = f"JOBS=2, {threads} thread{'s' if threads > 1 else ''} each"
    return {
        "jobs": Row(
            f"{of}: one run after the other", "s", after, beside, beside_name, 1.8, at_least=True
        ),
        "in_one_program": Row(
            f"{of}: --seeds=0,1",
            "s",
            together,
            after,
            "one run after the other",
            1.0,
        ),
    }


def users(settings: Settings) -> Found:
    """Measure how long Table 2's small network trains and is evaluated, on both shapes."""
    found = {}
    for shape in ("xing", "video"):
        flags = [*simulated(settings, shape), "--flagfile=hrnn_init_small.flags"]
        train, evaluate, whole = [], [], []
        for turn in range(settings.long_repeats):
            with children.scratch(settings.scratch) as folder:
                output = f"--output_dir={folder / 'run'}"
                taken = children.command(
                    module("run"), *flags, output, folder=folder, cache=folder / "cache"
                )
                mean = json.loads((folder / "run" / "metrics.json").read_text())["mean"]
            train.append(mean["train_seconds"])
            evaluate.append(mean["cases"] / mean["eval_cases_per_second"])
            whole.append(taken.seconds)
            settings.say(
                f"{shape} {turn + 1} of {settings.long_repeats}: trained in {train[-1]:.0f} s, "
                f"evaluated in {evaluate[-1]:.0f} s"
            )
        of = f"HRNN Init small on the {shape.upper()} shape"
        notes = [f"{mean['cases']:,.0f} cases"]
        found[f"{shape}_training"] = Row(f"{of}: 10 epochs", "s", train, notes=notes)
        found[f"{shape}_evaluation"] = Row(f"{of}: evaluation", "s", evaluate, notes=notes)
        found[f"{shape}_whole"] = Row(f"{of}: from the command to its end", "s", whole, notes=notes)
    return found
