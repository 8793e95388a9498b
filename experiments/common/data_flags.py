"""The flags of the data set and its preparation, and the prepared folder that they lead to.

The thresholds of Section 4.1 (--session_gap_minutes, --min_support, --min_session_events,
--min_user_sessions, --max_user_sessions, --min_test_events, --drop_types, --drop_repeats, --split)
are the fields of `hrnn_jax.config.DataConfig`: their defaults, bounds and meanings stand there.
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from hrnn_jax.config import DataConfig, ReadConfig, setting, settings
from hrnn_jax.errors import InputError
from hrnn_jax.preprocess import datasets, prepared, read_log

from . import config_flags, parts_flags


@dataclasses.dataclass(frozen=True)
class DataFlags:
    """Which data, and where they are prepared.

    Attributes:
        dataset: The data set: 'xing' (the RecSys Challenge 2016's interactions.csv), 'video' (your
            own log, prepared as the paper prepared VIDEO; simulated without --events), 'journey'
            (real grocery baskets, from a Python package), 'events' (any log), 'simulated' (see
            --simulate_shape) or a public log, whose file --events gives. Each has its own recipe
            and form, which other flags override.
        events: The path of the log for --dataset=events, video or a public log: one event per row
            as .csv, .tsv, .jsonl or .parquet, optionally followed by .gz (or .zst, of text). Or a
            folder of such files, several paths separated by commas, or a pattern in quotes, as in
            'part-*.parquet'.
        user_column: The column of the log that holds user ids, integers or strings; 'user_id' by
            default, in public logs as they are published.
        item_column: The column of the log that holds item ids, integers or strings; 'item_id' by
            default, in public logs as they are published.
        time_column: The column of the log that holds times in Unix seconds, milliseconds,
            microseconds or nanoseconds, in ISO 8601, or in the form of --time_format; 'ts' by
            default, in public logs as they are published. Empty: there are no times, and the order
            is the file's.
        session_column: The column of the log that holds session ids, which then replace
            --session_gap_minutes; none by default, except for journey and some public logs. Empty:
            none.
        type_column: The column of the log that holds event types, for --drop_types and
            --drop_repeats; none by default, except for some public logs.
        part_column: The column of the log that holds the part of each event, for --protocol=given:
            train, validation or test. By default the names of the files tell.
        simulate_shape: The paper's data set whose Table 1 a log of --dataset=simulated resembles;
            'video' by default.
        simulate_seed: The seed of a simulated log; at least 0.
        simulate_scale: The size of a simulated log as a fraction, above 0, of the paper's number of
            users.
        prepared_dir: The folder that keeps prepared logs, and simulated ones, to use again.
    """

    dataset: str = setting("video", choices=datasets.NAMES)
    events: str | None = setting(None, is_path=True)
    user_column: str | None = setting(None)
    item_column: str | None = setting(None)
    time_column: str | None = setting(None)
    session_column: str | None = setting(None)
    type_column: str | None = setting(None)
    part_column: str | None = setting(None)
    simulate_shape: str | None = setting(None, choices=datasets.SHAPES)
    simulate_seed: int = setting(0, least=0)
    simulate_scale: float = setting(1.0, above=0)
    prepared_dir: str = setting("out/prepared", is_path=True)


FLAGS = flags.FLAGS
config_flags.define_command(DataFlags, "data")
config_flags.define({ReadConfig: "data", DataConfig: "data"}, optional=True)


def prepare(continued_items: Sequence[int] | Sequence[str] = ()) -> pathlib.Path:
    """Prepare the log that the flags name, or find it prepared; return its folder.

    continued_items: see `prepared.prepare`.
    """
    root, own_recipe = pathlib.Path(FLAGS.prepared_dir), recipe()
    columns = {
        field.name: column or None
        for field in dataclasses.fields(read_log.Columns)
        if (column := FLAGS[field.name].value) is not None
    }
    for name in ("user_column", "item_column"):
        if columns.get(name, "") is None:
            raise InputError(f"`{name}` is empty: give the name of a column of the log")
    try:
        source = datasets.source(
            FLAGS.dataset,
            root,
            events=pathlib.Path(FLAGS.events) if FLAGS.events else None,
            columns=columns,
            reading=_given(ReadConfig),
            simulation=datasets.Simulation(
                FLAGS.simulate_shape, FLAGS.simulate_seed, FLAGS.simulate_scale
            ),
        )
    except InputError as error:
        if FLAGS.dataset == "xing" and not FLAGS.events:
            raise InputError(f"{error}: --flagfile=xing_simulated.flags does that") from error
        raise
    with parts_flags.shown() as parts:
        return prepared.prepare(
            source, own_recipe, root, continued_items=continued_items, parts=parts
        )


def recipe() -> DataConfig:
    """Return how the flags say to prepare the log. Raises InputError where a value is bad."""
    given = _given(DataConfig)
    if given.get("max_user_sessions") == 0:  # 0 lifts the limit of a data set's own recipe
        given["max_user_sessions"] = None
    own = datasets.recipe(FLAGS.dataset, simulate_shape=FLAGS.simulate_shape)
    return dataclasses.replace(own, **given)


def _given(config: type) -> dict[str, Any]:
    """Return the values of the flags of a config that were given."""
    return {
        name: value for name in settings(config) if (value := config_flags.value(name)) is not None
    }


def kept(counts: Sequence[Mapping[str, Any]]) -> str:
    """Say how much of a log its preparation left, and which filters took the rest; "" if none did.

    counts: those of the prepared log's meta.json, of the log and after each step.
    """
    took = [
        f"--{after['stage']}" if after["stage"].partition("=")[0] in FLAGS else after["stage"]
        for before, after in itertools.pairwise(counts)
        if after["events"] < before["events"]
    ]
    if not took:
        return ""
    log, last = counts[0], counts[-1]
    users, events, items = (f"{last[n]:,} of {log[n]:,} {n}" for n in ("users", "events", "items"))
    return f"kept {users}, {events} and {items} ({', '.join(took)})"


def title() -> str:
    """Say in a few words which data the flags name, and whether they are simulated."""
    if FLAGS.dataset == "simulated" or (FLAGS.dataset == "video" and not FLAGS.events):
        shape = (FLAGS.simulate_shape or "video").upper()
        scale = "" if FLAGS.simulate_scale == 1 else f" at scale {FLAGS.simulate_scale:g}"
        return f"simulated events in the shape of the paper's {shape}{scale}"
    return str(FLAGS.events or FLAGS.dataset)
