"""The paper's evaluation as runs: columns of data, rows of models, seeds.       Tables 3 and 5"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence

from hrnn_jax import errors

from ..common import cli
from ..common.model_names import BEYOND, PAPER_BASELINES, PAPER_NETWORKS, SIZES
from ..common.package import module

CUTOFFS = (1, 5, 10, 20)
CUTOFF = 5  # the one of the tables, figures and tests of significance
RECIPES: Mapping[str, tuple[str, ...]] = {  # Section 4.1, for an extra log with any columns
    "video": ("--dataset=events",),
    "xing": ("--dataset=events", "--drop_repeats", "--min_support=20", "--max_user_sessions=200"),
}
XXL = "videoxxl"  # the column of Table 5, which stands in no other
# The flags that matter to a method that counts, beside its data.
COUNTING_FLAGS = (
    "model",
    "neighbours",
    "sample_size",
    "boost",
    "remind_weight",
    "candidates",
    "ties",
)


@dataclasses.dataclass(frozen=True)
class Column:
    """A data set."""

    key: str
    flags: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Row:
    """A model with its settings."""

    key: str
    size: str | None  # of SIZES; the methods that count have none
    flags: tuple[str, ...]

    @property
    def model(self) -> str:
        return self.key if self.size is None else self.key.removesuffix("_" + self.size)


@dataclasses.dataclass(frozen=True)
class Run:
    """A model with one seed on a data set, in a folder of its own."""

    column: Column
    row: Row
    seed: int
    epochs: int  # 0 for a method that counts
    folder: pathlib.Path

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.column.key} {self.row.key}" + (f" seed {self.seed}" if self.row.size else "")

    def argv(self, prepared_dir: str) -> tuple[str, ...]:
        """Return the command that makes it, or goes on with it."""
        return (
            module("run"),
            *self.column.flags,
            *self.row.flags,
            *((f"--seeds={self.seed}",) if self.row.size else ()),
            f"--cutoffs={','.join(map(str, CUTOFFS))}",
            "--resume",
            f"--output_dir={self.folder}",
            f"--prepared_dir={prepared_dir}",
        )


def columns(
    *, xing_events: str | None, video_events: str | None, extra: Sequence[str]
) -> list[Column]:
    """Return the columns of Table 3: XING and VIDEO, or what stands in for them, and real logs.

    extra: logs as name=path:recipe, the recipe one of RECIPES or a flag file. Raises InputError.
    """
    for flag, path in (("xing_events", xing_events), ("video_events", video_events)):
        if path and not pathlib.Path(path).is_file():
            raise errors.InputError(f"--{flag}={path}: no such file")
    xing = ("--flagfile=xing.flags", f"--events={xing_events}") if xing_events else None
    given = (f"--events={video_events}",) if video_events else ()
    found = [
        Column("xing", xing or ("--flagfile=xing_simulated.flags",)),
        Column("video", ("--flagfile=video.flags", *given)),
        Column("journey", ("--flagfile=journey.flags",)),
        *(log(text, "extra") for text in extra),
    ]
    keys = [column.key for column in found]
    if twice := sorted(key for key in {*keys} if keys.count(key) > 1 or key == XXL):
        raise errors.InputError(f"--extra: the name {twice[0]} is taken; choose another")
    return found


def log(text: str, flag: str) -> Column:
    """Return the column of a log given as name=path:recipe. Raises InputError, naming the flag."""
    name, equals, rest = text.partition("=")
    path, colon, recipe = rest.rpartition(":")
    if not (equals and colon and name.isidentifier() and path and recipe):
        raise errors.InputError(
            f"--{flag}={text}: give name=path:recipe, as in mine=log.parquet:video; the recipe is "
            f"{', '.join(RECIPES)} or a flag file"
        )
    if not pathlib.Path(path).is_file():
        raise errors.InputError(f"--{flag}={text}: no such file: {path}")
    recipe_flags = RECIPES.get(recipe, (f"--flagfile={recipe}",))
    cli.expand(recipe_flags)  # says so if there is no such flag file
    return Column(name, (*recipe_flags, f"--events={path}"))


def xxl(scale: float) -> Column:
    """Return the column of Table 5: the VIDEOXXL shape with `scale` times its users."""
    return Column(XXL, (f"--flagfile={XXL}.flags", f"--simulate_scale={scale:g}"))


def rows(sizes: Sequence[str]) -> list[Row]:
    """Return the rows of Table 3, then those beyond the paper."""
    counting = {key: Row(key, None, (f"--model={key}",)) for key in (*PAPER_BASELINES, *BEYOND)}
    return [
        *(counting[key] for key in PAPER_BASELINES),
        *(network(model, size) for size in SIZES if size in sizes for model in PAPER_NETWORKS),
        *(counting[key] for key in BEYOND),
    ]


def network(model: str, size: str) -> Row:
    """Return a network with the values of Table 2."""
    # RNN and RNN Concat use the same.
    of = "rnn" if model == "rnn_concat" else model
    return Row(f"{model}_{size}", size, (f"--flagfile={of}_{size}.flags", f"--model={model}"))


def networks(size: str) -> list[Row]:
    """Return the networks alone, the rows of Table 5."""
    return [network(model, size) for model in PAPER_NETWORKS]


def run(
    root: pathlib.Path, column: Column, row: Row, seed: int, prepared: str, *, kind: str = "runs"
) -> Run:
    """Place a run in a folder named by all that decides its weights.

    prepared: the name of the prepared folder, which tells the log and its recipe. A changed flag
    file so leads to another folder, and changing it back finds the first again. kind: the folder
    of all runs of its kind.
    """
    given = cli.expand([*column.flags, *row.flags])
    decides = dict(flag.lstrip("-").partition("=")[::2] for flag in given)  # the last of a name
    for name in ("events", "prepared_dir"):  # they may move: `prepared` tells the content
        decides.pop(name, None)
    if row.size is None:
        decides = {name: decides[name] for name in COUNTING_FLAGS if name in decides}
    epochs = int(decides["epochs"]) if row.size else 0
    text = json.dumps([prepared, sorted(decides.items())])
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:8]
    name = f"{row.key.replace(' ', '_')}-{fingerprint}"
    folder = root / kind / column.key / name / f"seed_{seed}"
    return Run(column, row, seed, epochs, folder)


def in_order(
    root: pathlib.Path, cells: Sequence[tuple[Column, Row]], seeds: int, prepared: Mapping[str, str]
) -> list[Run]:
    """Return all runs, the quick and telling ones first.

    Counting comes first, then the small networks seed by seed, then the large. prepared: the
    prepared folder's name by column. The methods that count, and Table 5, have one seed.
    """
    found = [
        run(root, column, row, seed, prepared[column.key])
        for column, row in cells
        for seed in range(seeds if row.size and column.key != XXL else 1)
    ]
    sizes = (None, *SIZES)
    return sorted(found, key=lambda r: (sizes.index(r.row.size), r.column.key == XXL, r.seed))
