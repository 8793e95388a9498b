"""The flags of tune, and the study that they lead to."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from hrnn_jax import errors
from hrnn_jax.config import NETWORKS, setting
from hrnn_jax.event_log import EventLog
from hrnn_jax.preprocess import prepared
from hrnn_jax.presets import PRESETS
from hrnn_jax.ranking import metrics

from ..common import cli, config_flags, interrupt, model_flags
from ..jobs import side_by_side
from . import search_spaces

if TYPE_CHECKING:
    from .study import Study


@dataclasses.dataclass(frozen=True)
class TuneFlags:
    """The flags of this command alone.

    Attributes:
        study_dir: The study's folder; one of this log and search in out/tune if none is given.
        space: What is searched: a row of the table above; by default the one named like --model.
        trials: Trials of the whole study, by all its processes; pruned and diverged ones count.
        objective: The metric to maximise on the validation split, with the length N of the list:
            recall@N, mrr@N and so on.
        fix: Hyper-parameters that are not searched but taken from their flags, as in momentum.
        sampler: How a trial's values are drawn.
        pruner: Whether a trial ends early, from epoch 2 on, if its best value so far is below the
            median of the complete trials after as many epochs.
        startup_trials: Complete trials before any is pruned, and (at least 5) before tpe draws by
            their values.
        user_share: The share of the users, above 0 and at most 1, that trials train on and are
            measured on: drawn once for a log, the same ones in every trial. All items stay
            candidates.
        patience: End a trial after this many epochs in a row that were no better than its best; by
            default it trains all --epochs.
    """

    study_dir: str | None = setting(None, is_path=True)
    space: str | None = setting(None, choices=(*search_spaces.BY_NAME,))
    trials: int = setting(50, least=1)
    objective: str = setting("recall@5")
    fix: tuple[str, ...] = setting(())
    sampler: str = setting("random", choices=search_spaces.SAMPLERS)
    pruner: str = setting("median", choices=search_spaces.PRUNERS, models=NETWORKS)
    startup_trials: int = setting(3, least=1)
    user_share: float = setting(1.0, above=0, most=1)
    patience: int | None = setting(None, least=1, models=NETWORKS)


FLAGS = flags.FLAGS
config_flags.define_command(TuneFlags)


def space_name() -> str | None:
    """Return --space, by default that of a preset; None for the model's own."""
    return FLAGS.space or (FLAGS.model if FLAGS.model in PRESETS else None)


def check() -> search_spaces.Space:
    """Return what is searched; from here on the validation split is the one that is measured.

    Raises:
        InputError: The flags do not fit together, or not with a value that may be drawn.
    """
    space = search_spaces.search_space(model_flags.network(), FLAGS.fix, space_name())
    if FLAGS.split == "test":
        raise errors.InputError(
            "--split=test: trials are measured on the validation split, so that the test sessions "
            "stay unseen; drop it"
        )
    objective_cutoff(FLAGS.objective)
    model_flags.check()
    if model_flags.is_network() and FLAGS.epochs == 0:
        raise errors.InputError("--epochs=0 trains nothing to tune: give 1 or more")
    cli.typed.update(space)  # a drawn value that has no effect is refused, not left out
    for name, values in space.items():
        for value in search_spaces.bounds(values):
            set_flag(name, value)
            try:
                model_flags.check()
            except errors.InputError as error:
                raise errors.InputError(
                    f"{error}; or take it from its flag with --fix={name}"
                ) from error
    FLAGS.split = "validation"
    return space


def objective_cutoff(objective: str) -> int:
    """Return N of an objective such as recall@N.

    Raises:
        InputError: It is not a metric at a positive N.
    """
    text = objective.partition("@")[2]
    cutoff = int(text) if text.isascii() and text.isdecimal() else 0
    if not 1 <= cutoff < 2**31 or objective not in metrics.summarise(np.ones(1), [cutoff]):
        known = ", ".join(metrics.summarise(np.ones(1), [5]))
        raise errors.InputError(
            f"`objective`={objective}: give one of {known}, or another N from 1"
        )
    return cutoff


def set_flag(name: str, value: Any) -> None:
    """Set the flag of a searched setting, through its text as it will stand in best.flags."""
    FLAGS[name].parse(str(value))


def load_log(prepared_folder: pathlib.Path) -> EventLog:
    """Load a log that is prepared for the validation split: what trials train on, and their cases.

    Args:
        prepared_folder: The prepared log.

    Returns:
        The events of --user_share of its users.

    Raises:
        InputError: The folder is damaged, or no validation case is left.
    """
    log = share_of_users(prepared.load(prepared_folder), FLAGS.user_share)
    if len(log.cases) == 0:
        raise errors.InputError(
            "no validation case is left: no validation session has two items that were trained on"
            + (", of these users: give a larger --user_share" if FLAGS.user_share < 1 else "")
        )
    return log


def share_of_users(log: EventLog, share: float) -> EventLog:
    """Return all events of some users, at least one; items and users keep their numbers.

    Args:
        log: The events.
        share: The share of the users, above 0 and at most 1.
    """
    users = np.unique(log.user)
    count = max(1, round(share * len(users)))
    drawn = np.random.default_rng(0).permutation(users)[:count]
    return log.where(np.isin(log.user, drawn))


def processes(study: Study) -> int:
    """Return how many processes run trials: no more than trials are left.

    By default networks on a GPU have one: the first process takes most of its memory.
    """
    with interrupt.importing():
        import jax  # here: the flags are checked before jax is loaded

    on_device = model_flags.is_network() and FLAGS.jobs is None and jax.default_backend() != "cpu"
    wanted = 1 if on_device else side_by_side.number()
    return min(wanted, FLAGS.trials - study.counts().done)
