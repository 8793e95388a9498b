"""Train and evaluate one model on one data set: a raw log in, a run folder out.

python -m experiments.run --flagfile=video.flags
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from absl import flags

from hrnn_jax import errors
from hrnn_jax.config import NETWORKS, setting
from hrnn_jax.estimators import run_files
from hrnn_jax.event_log import EventLog
from hrnn_jax.files import atomic, run_lock
from hrnn_jax.files.recipe_formats import RECIPE_FORMAT
from hrnn_jax.preprocess import prepared

from .common import (
    cli,
    compile_cache,
    config_flags,
    data_flags,
    interrupt,
    model_flags,
    run_folder,
)
from .folders import earlier_run
from .folders.default_folder import default_folder
from .training import continue_run, distributed

HINT = ": the same command with --resume goes on"  # after ctrl-C


@dataclasses.dataclass(frozen=True)
class RunFlags:
    """The flags of this command alone.

    Attributes:
        output_dir: The run folder. By default, or empty, out/runs/<log>-<fingerprint>/<model>, with
            the fingerprint of the prepared log; a model with other settings than in the comparison
            adds theirs.
        resume: Go on with an interrupted run in the run folder, train more epochs or seeds there,
            or report a finished run.
    """

    output_dir: str | None = setting(None)
    resume: bool = setting(False)


@dataclasses.dataclass(frozen=True)
class TrainingFlags:
    """The flags of a run's training, but for those of the configs.

    Attributes:
        curve: Rank the cases after every epoch as well: history.jsonl then has Recall and MRR by
            epoch.
        tensorboard: Write each epoch's loss, and with --curve its metrics, for TensorBoard: below
            tensorboard in the run folder, by seed. Needs the extra of that name.
        stop_above_loss: Stop training after an epoch whose mean loss is above this one; seeds side
            by side stop together, once the losses of all are. The loss of constant scores is 1 with
            TOP1; a network with a higher one has learned nothing. The run still ranks, and its
            metrics.json names the epoch and the loss.
    """

    curve: bool = setting(False, models=NETWORKS)
    tensorboard: bool = setting(False, models=NETWORKS)
    stop_above_loss: float | None = setting(None, models=NETWORKS)


FLAGS = flags.FLAGS
config_flags.define_command(RunFlags, "output")
config_flags.define_command(TrainingFlags, "training")


def main() -> None:
    """Make, resume or report one run folder."""
    model_flags.check()  # before any work
    data_flags.recipe()
    seeds = model_flags.seeds()
    distributed.check()
    with distributed.joined(HINT):
        _run(seeds)


def _run(seeds: Sequence[int]) -> None:
    print(f"{model_flags.NAMES[FLAGS.model]} on {data_flags.title()}", flush=True)
    parents = continue_run.parents(seeds) if FLAGS.continue_from else {}
    known_items: Sequence[Any] = next((parent.items for parent in parents.values()), ())
    prepared_folder = distributed.first_alone(lambda: data_flags.prepare(known_items))
    if kept := data_flags.kept(prepared.load_meta(prepared_folder)["counts"]):
        print(kept, flush=True)
    log = prepared.load(prepared_folder)
    folder = pathlib.Path(FLAGS.output_dir or default_folder(prepared_folder))
    recipe = {
        "format": RECIPE_FORMAT,
        "data": prepared_folder.name,
        **model_flags.recipe(log.n_items),
    }
    if parents:
        if folder.resolve() == pathlib.Path(FLAGS.continue_from).resolve():
            raise errors.InputError(
                f"--output_dir={folder} is the run that is continued: choose another folder"
            )
        lineages = {str(seed): list(parent.lineage) for seed, parent in parents.items()}
        recipe["continued_from"] = {"run": FLAGS.continue_from, "weights": lineages}
        n_new = log.n_items - len(known_items)
        print(f"{len(known_items):,} items of {FLAGS.continue_from}, {n_new:,} new ones")
    about = _about(prepared.load_meta(prepared_folder))
    distributed.check_same(
        {"recipe": recipe, "evaluation": about, "output_dir": str(folder)}
        | {name: FLAGS[name].value for name in ("epochs", "resume", "curve", "stop_above_loss")}
    )
    with _opened(folder, recipe, prepared_folder):
        test = int(log.test.sum())
        print(
            f"{len(log) - test:,} training and {test:,} test events, {log.n_items:,} items; "
            f"in {folder}",
            flush=True,
        )
        metrics = _finish(folder, prepared_folder, log, parents)
    if metrics is None:
        return
    cases = int(metrics["mean"]["cases"])
    print(f"\n{metrics['title']}: {cases:,} test cases, results in {folder}\n")
    run_folder.print_metrics([metrics])


@contextlib.contextmanager
def _opened(
    folder: pathlib.Path, recipe: Mapping[str, Any], prepared_folder: pathlib.Path
) -> Generator[None]:
    """Open the run folder for the block in the process that writes it; the others wait for it."""
    if not distributed.is_first():
        distributed.wait()
        yield
        return
    with run_lock.locked(folder, "output_dir"):
        run_folder.open_folder(folder, recipe, refusal=_refusal(folder, prepared_folder))
        distributed.wait()
        with run_folder.removed_unless_begun(folder):
            yield


def _refusal(folder: pathlib.Path, prepared_folder: pathlib.Path) -> str | None:
    """Say why this run does not go on in a folder that holds one of its recipe."""
    about = _about(prepared.load_meta(prepared_folder))
    if model_flags.is_network():
        about |= {"epochs": FLAGS.epochs}
        there = run_folder.read_metrics(folder)
        if there and there.get("stopped") and FLAGS.stop_above_loss is not None:
            about |= {"epochs": there["epochs"]}
    return earlier_run.refusal(folder, about, resume=FLAGS.resume, is_default=not FLAGS.output_dir)


def _finish(
    folder: pathlib.Path,
    prepared_folder: pathlib.Path,
    log: EventLog,
    parents: continue_run.Parents,
) -> dict[str, Any] | None:
    """Train and rank what is missing in an open run folder.

    Returns:
        The content of metrics.json; None in a process that does not write it.
    """
    with interrupt.importing():
        from .training import (  # here: flags and log are checked before jax is loaded
            mixtures,
            run_seeds,
        )

    compile_cache.keep()
    is_network, writes = model_flags.is_network(), distributed.is_first()
    if is_network and writes:  # also for a run that ended before these files existed
        run_folder.write_data(folder, prepared_folder)
    about = _about(prepared.load_meta(prepared_folder))
    if is_network:
        about |= run_seeds.ending(run_folder.read_history(folder), about["seeds"])
    metrics = run_folder.read_finished(folder, about)
    is_finished = bool(metrics) and not (is_network and mixtures.are_missing(folder))
    if distributed.of_first(is_finished):
        print(f"{folder} is complete")
        return metrics
    if writes:
        atomic.write(folder / "flags", cli.flag_file(besides=["resume", *distributed.OWN]))
    if is_network:
        results = list(run_seeds.train_and_rank(folder, log, parents))
        about |= run_seeds.ending(run_folder.read_history(folder), about["seeds"])
    else:
        results = [run_seeds.rank_baseline(log)]
    return run_folder.write_results(folder, log, about, results) if writes else None


def _about(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return what metrics.json says of the run before it is trained."""
    seeds = model_flags.seeds() if model_flags.is_network() else [0]
    config = model_flags.evaluation_config()
    return run_files.about(FLAGS.model, meta, data_flags.title(), config, seeds)


if __name__ == "__main__":
    cli.run(main, hint=HINT, defaults=continue_run.defaults)
