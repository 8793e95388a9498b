"""What the tuned comparison is made of: logs, rows, studies, runs and learning curves."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence

import polars as pl

from hrnn_jax import errors
from hrnn_jax.config import BASELINES

from ..common import cli, model_names
from ..common.model_names import PAPER_NETWORKS
from ..common.package import module
from ..jobs import grid
from ..tuning import search_spaces

PLUS = "hrnn_plus"
COUNTING = BASELINES
UNTUNED = ("ppop", "markov", "sr")  # they have nothing to tune
NETWORKS = (*PAPER_NETWORKS, PLUS)
# Rows by key, and what people call them.
NAMES = {key: model_names.NAMES[key] for key in COUNTING} | PAPER_NETWORKS | {PLUS: PLUS}
_SAMPLED = ("--extra_negatives=1000", "--mask_false_negatives")
# hrnn_plus with one thing changed: rows that take its tuned flags and then these. First its parts,
# each taken away, then what others have.
ABLATION: dict[str, tuple[str, ...]] = {
    "without neighbours": ("--neighbours=0",),
    "without past and neighbours": ("--past=0", "--neighbours=0"),
    "without idle gap": ("--noidle_gap",),
    "without the user GRU": ("--model=rnn",),
    "mean over valid lanes": ("--mean_over=valid",),
    "negatives of any time": ("--negative_hours=0",),
    "cross-entropy of 1000 negatives": ("--loss=cross_entropy", "--log_q", *_SAMPLED),
    "BPR-max of 1000 negatives": ("--loss=bpr_max", "--regularisation=0.1", *_SAMPLED),
    "TOP1-max of 1000 negatives": ("--loss=top1_max", *_SAMPLED),
    "no embedding": ("--embedding=none",),
    "separate embedding": ("--embedding=separate",),
    "tied embedding": ("--embedding=tied",),
    "tied embedding with dropout 0.2": ("--embedding=tied", "--dropout_embedding=0.2"),
    "cosine schedule": ("--schedule=cosine",),
    "BPTT over 4 steps": ("--bptt_steps=4",),
    "2 layers": ("--layers=2",),
    "last item fed": ("--feed_last_item",),
}
ROWS = (*NAMES, *ABLATION)
PATIENCE = 3  # epochs
ENDED = ("complete", "pruned", "diverged")  # trials that count


@dataclasses.dataclass(frozen=True)
class Study:
    """A row's search on a log, in a folder of its own."""

    column: grid.Column
    row: str
    folder: pathlib.Path
    flags: tuple[str, ...]  # of the log and the row
    trials: int
    epochs: int  # the most that a trial trains
    prepared: str  # the name of the prepared folder

    @property
    def name(self) -> str:
        return f"{self.column.key} {self.row}"

    @property
    def best(self) -> pathlib.Path:
        return self.folder / "best.flags"

    def argv(self, prepared_dir: str) -> tuple[str, ...]:
        """Return the command that makes it, or goes on with it."""
        return (
            module("tune"),
            *self.flags,
            *self._budget(),
            f"--study_dir={self.folder}",
            f"--prepared_dir={prepared_dir}",
        )

    def is_done(self) -> bool:
        """Say whether this very search, not one of other flags, had its trials."""
        return self.mark.exists() and self.mark.read_text() == self.fingerprint()

    @property
    def mark(self) -> pathlib.Path:
        """Where the fingerprint of what has ended is noted, beside the folder."""
        return self.folder.with_name(self.folder.name + ".done")

    def fingerprint(self) -> str:
        """Tell all that decides what is searched; a log may move.

        Where a space may have changed, tune is asked: it knows whether the study is of another.
        """
        given = [f for f in cli.expand(self.flags) if not f.startswith("--events=")]
        spaces = pathlib.Path(search_spaces.__file__).read_text()
        text = json.dumps([self.prepared, given, self._budget(), spaces])
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def trials_table(self) -> pl.DataFrame | None:
        """Return the trials that count, None before the first has ended."""
        path = self.folder / "trials.csv"
        if not path.exists():
            return None
        found = pl.read_csv(path, infer_schema_length=None)
        return found.filter(pl.col("state").is_in(ENDED)).cast({"value": pl.Float64})

    def _budget(self) -> list[str]:
        training = [f"--epochs={self.epochs}", f"--patience={PATIENCE}"]
        return [f"--trials={self.trials}", *(training if self.row in NETWORKS else ())]


def logs(texts: Sequence[str]) -> list[grid.Column]:
    """Return the logs, each name=path:recipe or journey. Raises InputError."""
    found = [
        grid.Column("journey", ("--flagfile=journey.flags",))
        if text == "journey"
        else grid.log_column(text, "logs")
        for text in texts or ["journey"]
    ]
    keys = [column.key for column in found]
    if twice := sorted(key for key in {*keys} if keys.count(key) > 1):
        raise errors.InputError(f"--logs: two are named {twice[0]}; choose another name")
    return found


def check_rows(keys: Sequence[str]) -> list[str]:
    """Return rows in the order of the tables. Raises InputError unless they are of ROWS."""
    if strange := sorted(set(keys) - set(ROWS)) or ([] if keys else [""]):
        raise errors.InputError(f"--rows: {strange[0]!r} is none; give some of {', '.join(ROWS)}")
    return [key for key in ROWS if key in keys]


def budgets(
    flag: str, texts: Sequence[str], columns: Sequence[grid.Column], default: int
) -> dict[str, int]:
    """Return a number for each log, of words as in "20 journey=8". Raises InputError."""
    keys = [column.key for column in columns]
    given: dict[str, int] = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        if not (
            number.isascii() and number.isdecimal() and int(number) and bool(name) == bool(equals)
        ):
            raise errors.InputError(
                f"--{flag}: {text!r} is no number from 1, nor name=number for a log, as in "
                f"--{flag}='20 journey=8'"
            )
        if equals and name not in keys:
            raise errors.InputError(f"--{flag}={text}: no log {name!r} among {', '.join(keys)}")
        if name in given:
            raise errors.InputError(f"--{flag}: two numbers for {name or 'all logs'}; give one")
        given[name] = int(number)
    return {key: given.get(key, given.get("", default)) for key in keys}


def row_flags(key: str) -> tuple[str, ...]:
    """Return a row's flags before tuning."""
    if key == PLUS:
        return (f"--flagfile={PLUS}.flags",)
    return (f"--model={key}",) if key in COUNTING else grid.network_row(key, "small").flags


def studies(
    root: pathlib.Path,
    columns: Sequence[grid.Column],
    keys: Sequence[str],
    prepared: Mapping[str, str],
    *,
    trials: Mapping[str, int],
    epochs: Mapping[str, int],
) -> list[Study]:
    """Return a search for each row that has something to tune, and for hrnn_plus' ablation.

    prepared: the prepared folder's name, trials and epochs: the budget, by column.
    """
    wanted = {PLUS if key in ABLATION else key for key in keys} - {*UNTUNED}
    return [
        Study(
            column=column,
            row=key,
            folder=root / "tune" / column.key / key,
            flags=(*column.flags, *row_flags(key), *((f"--space={key}",) if key == PLUS else ())),
            trials=trials[column.key],
            epochs=epochs[column.key],
            prepared=prepared[column.key],
        )
        for column in columns
        for key in NAMES
        if key in wanted
    ]


def cells(
    columns: Sequence[grid.Column], keys: Sequence[str], found: Sequence[Study]
) -> list[tuple[grid.Column, grid.Row]]:
    """Return the rows of each log as they were tuned, without those that have no best trial."""
    best = {(study.column.key, study.row): study.best for study in found if study.best.exists()}
    made = []
    for column in columns:
        # A flag file of a study names the log where it was then.
        moved = [flag for flag in cli.expand(column.flags) if flag.startswith("--events=")]
        for key in keys:
            tuned = best.get((column.key, PLUS if key in ABLATION else key))
            if tuned is None and key not in UNTUNED:
                continue
            flags = (f"--flagfile={tuned}",) if tuned else row_flags(key)
            size = None if key in COUNTING else "small"
            row = grid.Row(key, size, (*flags, *ABLATION.get(key, ()), *moved))
            made.append((column, row))
    return made


def curves(
    root: pathlib.Path,
    found: Sequence[tuple[grid.Column, grid.Row]],
    prepared: Mapping[str, str],
    epochs: Mapping[str, int],
) -> list[grid.Run]:
    """Return the networks' runs on the validation split, ranked after every epoch; one seed."""
    return [
        grid.place_run(
            root,
            column,
            dataclasses.replace(
                row,
                flags=(
                    *row.flags,
                    "--split=validation",
                    f"--epochs={epochs[column.key]}",
                    "--curve",
                ),
            ),
            0,
            prepared[column.key],
            kind="curves",
        )
        for column, row in found
        if row.key in NETWORKS
    ]


def progress(study: Study) -> str:
    """Say how far a study under way is, from its folder."""
    done = study.trials_table()
    if done is None:
        return f"trial 1/{study.trials}"
    return f"trial {min(len(done) + 1, study.trials)}/{study.trials}  {best(study)}"


def best(study: Study) -> str:
    """Say how good the best trial so far is."""
    done = study.trials_table()
    found = None if done is None else done.filter(state="complete")["value"].max()
    return f"best {found:.4f}" if found is not None else ""
