"""Search a model's hyper-parameters on the validation split, as in Section 4.2.

python -m experiments.tune --flagfile=video.flags --trials=50

Each trial draws values for the flags below, whatever they are given (but see --fix), trains on all
sessions of each user but the last two, and is measured on the last but one. The last ones, the test
sessions, are never read. All other flags mean what they mean to experiments.run. A trial's value is
that of its best epoch, and the number of epochs until then is written to best.flags too.

Start the command several times to search in several processes. The same command continues a study
after ctrl-C or a crash. The best trial so far is in <study_dir>/best.flags, for
python -m experiments.run --flagfile=<study_dir>/best.flags, and every trial in trials.csv.
"""

from __future__ import annotations

import dataclasses
import pathlib

from absl import flags

from hrnn_jax import errors
from hrnn_jax.config import NETWORKS, setting
from hrnn_jax.preprocess import prepared

from .common import cli, config_flags, data_flags, model_flags
from .common.cli import module
from .common.text import short

try:
    from .tuning import best_flags, search_spaces, trials
    from .tuning.study import PRUNERS, SAMPLERS, Search, Study
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "optuna":
        raise
    cli.fail(errors.InputError("experiments.tune needs Optuna: pip install 'hrnn_jax[tune]'"))

# For --help.
__doc__ = f"{__doc__}\nWhat is searched, by --space or else --model:\n\n{search_spaces.table()}\n"


@dataclasses.dataclass(frozen=True)
class TuneFlags:
    """The flags of this command alone.

    Attributes:
        study_dir: The study's folder; out/tune/<data set>/<space> if none is given.
        space: What is searched: a row of the table above; by default the one named like --model.
        trials: Trials of the whole study, by all its processes; pruned and diverged ones count.
        objective: The metric to maximise on the validation split, with the length N of the list:
            recall@N, mrr@N and so on.
        fix: Hyper-parameters that are not searched but taken from their flags, as in momentum.
        sampler: How a trial's values are drawn.
        pruner: Whether a trial ends early, from epoch 2 on, if its best value so far is below the
            median of the other trials after as many epochs.
        startup_trials: Complete trials before any is pruned, and before tpe draws by their values.
        patience: End a trial after this many epochs in a row that were no better than its best; by
            default it trains all --epochs.
    """

    study_dir: str | None = setting(None)
    space: str | None = setting(None, choices=(*search_spaces.BY_NAME,))
    trials: int = setting(50, least=1)
    objective: str = setting("recall@5")
    fix: tuple[str, ...] = setting(())
    sampler: str = setting("random", choices=SAMPLERS)
    pruner: str = setting("median", choices=PRUNERS)
    startup_trials: int = setting(5, least=1)
    patience: int | None = setting(None, least=1)


FLAGS = flags.FLAGS
config_flags.define_command(TuneFlags)


def main() -> None:
    """Run trials until the study has --trials, and print the best."""
    space = search_spaces.search_space(FLAGS.model, FLAGS.fix, FLAGS.space)
    _check(space)
    FLAGS.split = "validation"
    prepared_folder = data_flags.prepare()
    log = prepared.load(prepared_folder)
    if len(log.cases) == 0:
        raise errors.InputError(
            "no validation case is left: no validation session has two items that were trained on"
        )
    data_name = prepared.load_meta(prepared_folder)["name"]
    folder = pathlib.Path(FLAGS.study_dir or f"out/tune/{data_name}/{FLAGS.space or FLAGS.model}")
    print(
        f"{model_flags.NAMES[FLAGS.model]} on {data_flags.title()}, tuned for {FLAGS.objective} on "
        f"{len(log.cases):,} validation cases, in {folder}",
        flush=True,
    )
    recipe = {
        "data": prepared_folder.name,
        "model": FLAGS.model,
        "objective": FLAGS.objective,
        "searched": {name: search_spaces.describe(values) for name, values in space.items()},
        "patience": FLAGS.patience if FLAGS.model in NETWORKS else None,
        "settings": best_flags.shared_settings(space),
    }
    search = Search(space, FLAGS.sampler, FLAGS.pruner, FLAGS.startup_trials)
    with Study(folder, recipe, search, lambda best: best_flags.flag_file(best, space)) as study:
        trials.run_all(study, log)
        _report(study)


def _check(space: search_spaces.Space) -> None:
    """Raise InputError where the flags do not fit together, or not with a value to be drawn."""
    if FLAGS.split == "test":
        raise errors.InputError(
            "--split=test: trials are measured on the validation split, so that the test sessions "
            "stay unseen; drop it"
        )
    trials.objective_cutoff(FLAGS.objective)
    model_flags.check()
    if FLAGS.model in NETWORKS and FLAGS.epochs == 0:
        raise errors.InputError("--epochs=0 trains nothing to tune: give 1 or more")
    cli.typed.update(space)  # a drawn value that has no effect is refused, not left out
    for name, values in space.items():
        for value in search_spaces.bounds(values):
            trials.set_flag(name, value)
            try:
                model_flags.check()
            except errors.InputError as error:
                raise errors.InputError(
                    f"{error}; or take it from its flag with --fix={name}"
                ) from error


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
    print(f"python -m {module('run')} --flagfile={study.folder}/best.flags")


if __name__ == "__main__":
    cli.run(main, hint=": the same command goes on with the study")
