"""The contents of the tuned comparison: logs, rows (models, ablation) and learning curves."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

from hrnn_jax.config import BASELINES
from hrnn_jax.errors import InputError

from ..common import cli, model_names
from ..common.model_names import PAPER_NETWORKS
from ..jobs.grid import Column, Run, log_column, place_run
from ..jobs.paper_rows import ROWS as PAPER_ROWS
from ..jobs.paper_rows import Row
from ..tuning.study_job import StudyJob, tuned_flags

PLUS = "hrnn_plus"
# Models of RecTools by key: rows that are run only where --rows names them, see `peers`.
PEERS = {
    "sasrec": "SASRec (RecTools)",
    "ligr": "SASRec with LiGR (RecTools)",
    "hstu": "HSTU (RecTools)",
}
# Without hyper-parameters, with the defaults of their library, or with one setting for all logs.
UNTUNED = ("ppop", "markov", "sr", *PEERS, PLUS)
WITHOUT_SEEDS = (*BASELINES, *PEERS)  # rows with one run
NETWORKS = (*PAPER_NETWORKS, PLUS)
# The models' rows by key, and their names.
_OWN = {key: model_names.NAMES[key] for key in BASELINES} | PAPER_NETWORKS
NAMES = _OWN | PEERS | {PLUS: PLUS}
_NEGATIVES = ("--extra_negatives=1000", "--mask_false_negatives")
_CROSS_ENTROPY = ("--loss=cross_entropy", "--log_q", *_NEGATIVES)
# hrnn_plus with one thing changed: rows with its flags and then these. Keys have no comma (--rows).
# Its parts, each left out.
PARTS: dict[str, tuple[str, ...]] = {
    "without repeat and explore": ("--places=0", "--held_out_patience=0"),
    "without idle gap": ("--noidle_gap",),
    "without the user GRU": ("--model=rnn",),
    "mean over valid lanes": ("--mean_over=valid",),
    "negatives of any time": ("--negative_hours=0",),
}
# Its other options, run only where --rows names them. Each option of a network has a row here or in
# Table 3, which shows when to use it.
OPTIONS: dict[str, tuple[str, ...]] = {
    # Other losses, of the mini-batch's targets alone or of extra negatives.
    "BPR of the batch": ("--loss=bpr",),
    "cross-entropy of the batch": ("--loss=cross_entropy",),
    "cross-entropy of 1000 negatives": _CROSS_ENTROPY,
    "1000 negatives without logQ": ("--loss=cross_entropy", *_NEGATIVES),
    "false negatives kept": ("--loss=cross_entropy", "--log_q", "--extra_negatives=1000"),
    "negatives drawn evenly": (*_CROSS_ENTROPY, "--negative_alpha=0"),
    "BPR-max of 1000 negatives": ("--loss=bpr_max", "--regularisation=0.1", *_NEGATIVES),
    "BPR-max without regularisation": ("--loss=bpr_max", *_NEGATIVES),
    "BPR-max without elu": (
        "--loss=bpr_max",
        "--regularisation=0.1",
        "--activation=linear",
        *_NEGATIVES,
    ),
    "TOP1-max of 1000 negatives": ("--loss=top1_max", *_NEGATIVES),
    # Other networks and training.
    "no embedding": ("--embedding=none",),
    "separate embedding": ("--embedding=separate",),
    "tied embedding": ("--embedding=tied",),
    "tied embedding with dropout 0.2": ("--embedding=tied", "--dropout_embedding=0.2"),
    "tied embedding with residual": ("--embedding=tied", "--residual"),
    "dropout of outputs alone": ("--norecurrent_dropout",),
    "cosine schedule": ("--schedule=cosine",),
    "SGD with momentum": ("--optimizer=sgd", "--learning_rate=0.1", "--momentum=0.9"),
    "BPTT over 4 steps": ("--bptt_steps=4",),
    "2 layers": ("--layers=2",),
    "last item fed": ("--feed_last_item",),
}
ABLATION = PARTS | OPTIONS
# hrnn_plus with settings searched for each log, as those of the other models are. It stands with
# the ablation: it shows what the same settings on all logs cost.
TUNED_PLUS = "settings searched for the log"
SEARCHED = (*(key for key in NAMES if key not in UNTUNED), TUNED_PLUS)  # rows with a study
ROWS = (*NAMES, TUNED_PLUS, *ABLATION)
USUAL_ROWS = tuple(row for row in (*NAMES, TUNED_PLUS, *PARTS) if row not in PEERS)


def logs(texts: Sequence[str]) -> list[Column]:
    """Return the logs of --logs.

    Args:
        texts: each name=path:recipe or the word journey.

    Raises:
        InputError: a text is neither, its file is missing, or two have one name.
    """
    columns = []
    for text in texts or ["journey"]:
        if text == "journey":
            columns.append(Column(text, ("--flagfile=journey.flags",)))
        elif "=" not in text and (hint := cli.near(text, ["journey"])):
            raise InputError(f"--logs={text}: {hint}")
        else:
            columns.append(log_column(text, "logs"))
    keys = [column.key for column in columns]
    if twice := sorted(key for key in {*keys} if keys.count(key) > 1):
        raise InputError(f"--logs: two are named {twice[0]}; choose another name")
    return columns


def budgets(
    flag: str, texts: Sequence[str], columns: Sequence[Column], default: int
) -> dict[str, int]:
    """Return a number for each log.

    Args:
        flag: the name of the flag, for messages.
        texts: a number for all logs, and name=number for single ones.
        columns: the logs.
        default: of the logs without a number.

    Raises:
        InputError: a text is wrong or names no log, or a log has two numbers.
    """
    keys = [column.key for column in columns]
    given: dict[str, int] = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        is_number = number.isascii() and number.isdecimal() and int(number) > 0
        if not is_number or bool(name) != bool(equals):
            raise InputError(
                f"--{flag}: {text!r} is no number from 1, nor name=number for a log, as in "
                f"--{flag}='20 journey=8'"
            )
        if equals and name not in keys:
            raise InputError(f"--{flag}={text}: no log {name!r} among {', '.join(keys)}")
        if name in given:
            raise InputError(f"--{flag}: two numbers for {name or 'all logs'}; give one")
        given[name] = int(number)
    return {key: given.get(key, given.get("", default)) for key in keys}


def row_flags(key: str) -> tuple[str, ...]:
    """Return a row's flags before tuning."""
    if key in (PLUS, TUNED_PLUS):
        return (f"--flagfile={PLUS}.flags",)
    if key in PEERS:
        return ("--plugin=experiments.leaderboard.peers", f"--model={key}")
    return (f"--model={key}",) if key in BASELINES else PAPER_ROWS[f"{key}_small"].flags


def tuned_rows(
    columns: Sequence[Column], keys: Sequence[str], studies: Sequence[StudyJob]
) -> list[tuple[Column, Row]]:
    """Return the rows of each log with their flags, tuned ones where there is a search.

    Args:
        columns: the logs.
        keys: the rows that are wanted.
        studies: the searches; the rows of one that has no best trial are left out.
    """
    tuned = tuned_flags(studies)
    cells = []
    for column in columns:
        for key in keys:
            model = PLUS if key in ABLATION else key
            flags = tuned.get((column.key, key)) if key in SEARCHED else row_flags(model)
            if flags is None:
                continue
            size = None if key in WITHOUT_SEEDS else "small"
            flags = (*flags, *ABLATION.get(key, ()))
            cells.append((column, Row(key, size, flags)))
    return cells


def learning_curves(
    root: pathlib.Path,
    cells: Sequence[tuple[Column, Row]],
    prepared: Mapping[str, str],
    epochs: Mapping[str, int],
) -> list[Run]:
    """Return the networks' runs on the validation split, ranked after every epoch; one seed.

    A curve goes on to its last epoch, also that of hrnn_plus, whose runs may stop before.

    Args:
        root: the folder of the comparison.
        cells: the rows of each log, see `tuned_rows`.
        prepared: the prepared folder's name by log.
        epochs: the length of the curves by log.
    """
    runs = []
    for column, row in cells:
        if row.key in NETWORKS:
            extra = ("--split=validation", f"--epochs={epochs[column.key]}", "--curve")
            extra += ("--held_out_patience=0",) if row.key == PLUS else ()
            row = dataclasses.replace(row, flags=(*row.flags, *extra))
            runs.append(place_run(root, column, row, 0, prepared[column.key], kind="curves"))
    return runs
