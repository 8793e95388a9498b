"""The paper's evaluation as a grid of runs: data sets, models and seeds (Tables 3 and 5)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence

from hrnn_jax import errors
from hrnn_jax.config import ModelConfig, TrainConfig, settings
from hrnn_jax.presets import network_of

from ..common import cli, run_settings
from ..common.cli import module
from ..common.model_names import SIZES
from .paper_rows import ROWS, Row

CUTOFFS = (1, 5, 10, 20)
CUTOFF = 5  # the one of the tables, figures and tests of significance
RECIPES: Mapping[str, tuple[str, ...]] = {  # Section 4.1, for an extra log with any columns
    "video": ("--dataset=events",),
    "xing": ("--dataset=events", "--drop_repeats", "--min_support=20", "--max_user_sessions=200"),
}
XXL = "videoxxl"  # the column of Table 5, which stands in no other table
XXL_ROWS = ("rnn_small", "rnn_concat_small", "hrnn_all_small", "hrnn_init_small")
PAPER_COLUMNS = ("xing", "video")  # the paper's two data sets, or simulated ones in their place
# The flags that decide the result of a method without training, in addition to those of its data.
COUNTING_FLAGS = {
    "model",
    *(
        name
        for config in run_settings.CONFIGS.keys() - {ModelConfig, TrainConfig}
        for name in settings(config)
    ),
} - {"cutoffs"}


@dataclasses.dataclass(frozen=True)
class Column:
    """A data set, which is a column of the tables."""

    key: str
    flags: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Run:
    """A row with one seed on a column's data, in a run folder."""

    column: Column
    row: Row
    seed: int
    epochs: int  # 0 for a method without training
    folder: pathlib.Path
    exclude_session_items: bool = False  # the paper ranks all items

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"{self.column.key} {self.row.key}" + (f" seed {self.seed}" if self.row.size else "")

    def argv(self, prepared_dir: str) -> tuple[str, ...]:
        """Return the command that makes the run, or resumes it."""
        return (
            module("run"),
            *self.column.flags,
            *self.row.flags,
            *((f"--seeds={self.seed}",) if self.row.size else ()),
            f"--cutoffs={','.join(map(str, CUTOFFS))}",
            f"--{'' if self.exclude_session_items else 'no'}exclude_session_items",
            "--resume",
            f"--output_dir={self.folder}",
            f"--prepared_dir={prepared_dir}",
        )


def columns(
    *, xing_events: str | None, video_events: str | None, extra: Sequence[str]
) -> list[Column]:
    """Return the columns of Table 3: XING and VIDEO, a real log, and further logs.

    Args:
        xing_events: The path of XING's log; a simulated log replaces it where it is None.
        video_events: The same of VIDEO.
        extra: Further logs as name=path:recipe, where the recipe is one of RECIPES or a flag file.

    Raises:
        InputError: A file is missing, or a further log is not given so or has a taken name.
    """
    for flag, path in (("xing_events", xing_events), ("video_events", video_events)):
        if path and not pathlib.Path(path).is_file():
            raise errors.InputError(f"--{flag}={path}: no such file")
    xing = ("--flagfile=xing.flags", f"--events={xing_events}") if xing_events else None
    given = (f"--events={video_events}",) if video_events else ()
    result = [
        Column("xing", xing or ("--flagfile=xing_simulated.flags",)),
        Column("video", ("--flagfile=video.flags", *given)),
        Column("journey", ("--flagfile=journey.flags",)),
        *(log_column(text, "extra") for text in extra),
    ]
    keys = [column.key for column in result]
    if taken := sorted(key for key in {*keys} if keys.count(key) > 1 or key == XXL):
        raise errors.InputError(f"--extra: the name {taken[0]} is taken; choose another")
    return result


def chosen_columns(keys: Sequence[str] | None, columns: Sequence[Column]) -> list[Column]:
    """Return the columns of --data_sets in their order; None stands for all.

    Raises:
        InputError: One is not among the columns, or there is none.
    """
    known = [column.key for column in columns]
    keys = known if keys is None else keys
    if unknown := sorted(set(keys) - set(known)) or ([] if keys else [""]):
        raise errors.InputError(
            f"--data_sets: {unknown[0]!r} is none; give some of {', '.join(known)}"
        )
    return [column for column in columns if column.key in keys]


def log_column(text: str, flag: str) -> Column:
    """Return the column of a log given as name=path:recipe.

    Args:
        text: The log.
        flag: The flag that names it, for messages.

    Raises:
        InputError: It is not given so, or a file is missing.
    """
    name, equals, rest = text.partition("=")
    path, colon, recipe = rest.rpartition(":")
    if equals and not name.isidentifier():
        raise errors.InputError(
            f"--{flag}={text}: in name=path:recipe the name has to be of letters, digits and _, "
            f"and not to begin with a digit, unlike {name!r}"
        )
    if not (equals and colon and path and recipe):
        raise errors.InputError(
            f"--{flag}={text}: give name=path:recipe, as in mine=log.parquet:video; the recipe is "
            f"{', '.join(RECIPES)} or a flag file"
        )
    if not pathlib.Path(path).is_file():
        raise errors.InputError(f"--{flag}={text}: no such file: {path}")
    recipe_flags = RECIPES.get(recipe, (f"--flagfile={recipe}",))
    cli.expand(recipe_flags)  # raises where there is no such flag file
    return Column(name, (*recipe_flags, f"--events={path}"))


def xxl_column(scale: float) -> Column:
    """Return the column of Table 5: a log in the shape of VIDEOXXL, its users times `scale`."""
    return Column(XXL, (f"--flagfile={XXL}.flags", f"--simulate_scale={scale:g}"))


def rows(sizes: Sequence[str]) -> list[Row]:
    """Return the rows of Table 3 with networks of some sizes, in its order."""
    return [row for row in ROWS.values() if row.size is None or row.size in sizes]


def xxl_rows() -> list[Row]:
    """Return the rows of Table 5: the small networks, as the paper's equations have them."""
    return [ROWS[key] for key in XXL_ROWS]


def cells(columns: Sequence[Column], rows: Sequence[Row]) -> list[tuple[Column, Row]]:
    """Return the pairs of data and model of Table 3, of some columns and rows.

    Tuned rows are only on the logs that are not the paper's: its Table 2 was tuned on XING.
    """
    return [
        (column, row)
        for column in columns
        for row in rows
        if column.key not in PAPER_COLUMNS or not is_tuned(row)
    ]


def is_tuned(row: Row) -> bool:
    """Say whether a row's settings are searched on its data, before it is run."""
    return row.key in ROWS and ROWS[row.key].tuned


def n_seeds(column: Column, row: Row, seeds: int, large_seeds: int) -> int:
    """Return how many seeds a row has on a column's data.

    Args:
        column: the data.
        row: the model.
        seeds: of small networks; methods without training, and Table 5, have one.
        large_seeds: of tuned rows, and of the large networks that are repeated on the paper's two
            data sets, at most `seeds`; other large networks have one.
    """
    if not row.size or column.key == XXL:
        return 1
    if row.size == "small":
        return seeds
    repeated = row.key in ROWS and ROWS[row.key].repeated and column.key in PAPER_COLUMNS
    return min(seeds, large_seeds) if repeated or is_tuned(row) else 1


def place_run(
    root: pathlib.Path, column: Column, row: Row, seed: int, prepared: str, *, kind: str = "runs"
) -> Run:
    """Give a run a folder whose name depends on all that decides its weights.

    A changed flag file thus leads to another folder, and changing it back to the first again.

    Args:
        root: The folder of all runs.
        column: Its data.
        row: Its model.
        seed: Its seed.
        prepared: The name of the prepared folder, which identifies the log and its recipe.
        kind: The folder, in the root, of all runs of its kind.
    """
    expanded = cli.expand([*column.flags, *row.flags])
    deciding: dict[str, str] = {}
    for flag in expanded:
        key, _, value = flag.lstrip("-").partition("=")
        deciding[key] = value  # the last one of a name counts
    if "model" in deciding:  # a preset's settings stand there too: its runs are the network's
        deciding["model"] = network_of(deciding["model"])
    # A log may move: `prepared` identifies the content. And a run itself says what it leaves out.
    for name in ("events", "prepared_dir", "exclude_session_items", "noexclude_session_items"):
        deciding.pop(name, None)
    if row.size is None:
        deciding = {name: value for name, value in deciding.items() if name in COUNTING_FLAGS}
    epochs = int(deciding["epochs"]) if row.size else 0
    text = json.dumps([prepared, sorted(deciding.items())])
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:8]
    name = f"{row.key.replace(' ', '_')}-{fingerprint}"
    return Run(column, row, seed, epochs, root / kind / column.key / name / f"seed_{seed}")


def ordered_runs(
    root: pathlib.Path,
    cells: Sequence[tuple[Column, Row]],
    seeds: int,
    prepared: Mapping[str, str],
    large_seeds: int = 1,
) -> list[Run]:
    """Return all runs, quick ones first: counting, small networks seed by seed, large networks.

    Args:
        root: The folder of all runs.
        cells: The pairs of data and model to run.
        seeds: see `n_seeds`.
        prepared: The name of the prepared folder, by column.
        large_seeds: see `n_seeds`.
    """
    runs = [
        place_run(root, column, row, seed, prepared[column.key])
        for column, row in cells
        for seed in range(n_seeds(column, row, seeds, large_seeds))
    ]
    sizes = (None, *SIZES)
    return sorted(runs, key=lambda r: (sizes.index(r.row.size), r.column.key == XXL, r.seed))
