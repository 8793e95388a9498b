"""Search a model's hyper-parameters on the validation split, as in Section 4.2.

python -m experiments.tune --flagfile=video.flags --trials=50

Each trial draws values for the flags below, typed or not (but see --fix), trains on all
sessions of each user but the last two, and is measured on the last but one. The last ones, the test
sessions, are never read. All other flags mean what they mean to experiments.run. A trial's value is
that of its best epoch, and the number of epochs until then is written to best.flags too.

Trials run side by side, one per core, on a GPU one at a time; see --jobs. On machines that share
the study's folder, start the command on each. The same command continues a study after ctrl-C or a
crash. Every trial is in <study_dir>/trials.csv, and the best so far in best.flags, to run with

python -m experiments.run --flagfile=<study_dir>/best.flags
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from absl import flags

from hrnn_jax import errors

from .common import cli, data_flags, interrupt, model_flags
from .common.cli import command
from .common.text import short
from .tuning import search_spaces, tune_flags

if TYPE_CHECKING:
    from .tuning.study import Study

# For --help.
__doc__ = f"{__doc__}\nWhat is searched, by --space or else --model:\n\n{search_spaces.table()}\n"


FLAGS = flags.FLAGS


def main() -> None:
    """Run trials until the study has --trials, and print the best."""
    space = tune_flags.check()
    with cli.extra("tune"), interrupt.importing():
        from .tuning.study_of_flags import open_study  # here: flags are checked before optuna loads
    prepared_folder = data_flags.prepare()
    log = tune_flags.load_log(prepared_folder)
    users = f" of {FLAGS.user_share:.3g} of the users" if FLAGS.user_share < 1 else ""
    with open_study(space, prepared_folder) as study:
        print(
            f"{model_flags.NAMES[FLAGS.model]} on {data_flags.title()}, tuned for "
            f"{FLAGS.objective} on {len(log.cases):,} validation cases{users}, in {study.folder}",
            flush=True,
        )
        with interrupt.importing():
            # Here: flags and log are checked before jax is loaded.
            from .tuning import processes, trials

        side_by_side = tune_flags.processes(study)
        if side_by_side > 1:
            processes.run_all(study, side_by_side)
        else:
            trials.run_all(study, log)
        _report(study)


def _report(study: Study) -> None:
    best, counts = study.best(), study.counts()
    print(f"\n{counts.done} trials are done", end="")
    print(f", {counts.running} run in other processes" if counts.running else "")
    if best is None:
        if counts.running == 0:
            raise errors.DivergedError(
                f"all {counts.done} trials diverged: see {study.folder}/trials.csv, and take a "
                "lower learning rate with --fix=learning_rate"
            )
        return
    drawn = " ".join(f"--{name}={short(value)}" for name, value in best.params.items())
    print(f"best is trial {best.number}, {FLAGS.objective} {best.value:.4f}: {drawn}")
    best = shlex.quote(f"{study.folder}/best.flags")
    print(f"{command('run')} --flagfile={best}")


if __name__ == "__main__":
    cli.run(main, hint=": the same command goes on with the study")
