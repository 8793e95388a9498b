"""Train and evaluate one model on one data set: a raw log in, a run folder out.

python -m experiments.run --flagfile=video.flags
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from absl import flags

from hrnn_jax import atomic
from hrnn_jax.config import NETWORKS, RECIPE_FORMAT
from hrnn_jax.event_log import EventLog
from hrnn_jax.extras import item_neighbours
from hrnn_jax.preprocess import prepared

from .common import (
    cli,
    compile_cache,
    continue_run,
    data_flags,
    epochs,
    model_flags,
    provenance,
    run_folder,
    run_seeds,
)

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "output_dir", None, "The run folder; out/runs/<data set>/<model> if none is given."
)
flags.DEFINE_bool(
    "resume", False, "Go on with an interrupted run in --output_dir, or report a finished one."
)
flags.DEFINE_bool(
    "curve",
    False,
    "Rank the cases after every epoch as well: history.jsonl then has Recall and MRR by epoch.",
)


def main() -> None:
    """Make, resume or report one run folder."""
    compile_cache.keep()
    model_flags.check()  # before any work
    seeds = model_flags.seeds()
    is_network = FLAGS.model in NETWORKS
    print(f"{model_flags.NAMES[FLAGS.model]} on {data_flags.title()}", flush=True)
    parent = continue_run.parent(seeds) if FLAGS.continue_from else None
    prepared_folder = data_flags.prepare(parent.raw_ids if parent else ())
    meta = prepared.load_meta(prepared_folder)
    log = prepared.load(prepared_folder)
    folder = pathlib.Path(FLAGS.output_dir or f"out/runs/{meta['name']}/{FLAGS.model}")
    recipe = {
        "format": RECIPE_FORMAT,
        "data": prepared_folder.name,
        **model_flags.recipe(log.n_items),
    }
    if parent:
        continue_run.check_folder(folder, parent)
        recipe["continued_from"] = {"run": FLAGS.continue_from, "weights": parent.weights}
        n_known = len(parent.raw_ids)
        print(f"{n_known:,} items of {parent.folder}, {log.n_items - n_known:,} new ones")
    run_folder.open_folder(folder, recipe, resume=FLAGS.resume)
    if is_network:  # also for a run that ended before these files existed
        run_folder.write_data(folder, prepared_folder)
    evaluation_config = model_flags.evaluation_config()
    about = {
        "name": model_flags.NAMES[FLAGS.model],
        "data": meta["data"],
        "title": data_flags.title(),
        "users": meta["table1"]["users"],
        "split": meta["recipe"]["split"],
        "seeds": seeds if is_network else [0],
        "epochs": FLAGS.epochs if is_network else 0,
        "cutoffs": list(evaluation_config.cutoffs),
        "ties": evaluation_config.ties,
        "candidates": evaluation_config.candidates,
    }
    finished = run_folder.read_finished(folder, about)
    if finished:
        print(f"{folder} is complete")
        _report(folder, finished)
        return
    atomic.write(folder / "flags", FLAGS.flags_into_string())
    results = _network_results(folder, log, parent) if is_network else [_baseline_result(log)]
    results = sorted(results, key=lambda result: result.figures["seed"])
    # From here on, a run that stops is unfinished, even if it had ended before.
    (folder / run_folder.METRICS).unlink(missing_ok=True)
    rankings = {figures["seed"]: ranking for figures, ranking in results}
    run_folder.write_ranks(folder, log, {s: ranking.rank for s, ranking in rankings.items()})
    run_folder.write_recommended(
        folder, evaluation_config.cutoffs, {s: ranking.shown for s, ranking in rankings.items()}
    )
    per_seed = [figures for figures, _ in results]
    _report(folder, run_folder.write_metrics(folder, about, per_seed, provenance.made()))


def _network_results(
    folder: pathlib.Path, log: EventLog, parent: continue_run.Parent | None
) -> Iterator[run_seeds.SeedResult]:
    model_config = model_flags.model_config(log.n_items)
    table = epochs.neighbour_table(log.train, model_config)
    if table is not None:
        item_neighbours.save(folder / item_neighbours.FILE, table)
    run = run_seeds.NetworkRun(
        folder=folder,
        log=log,
        model_config=model_config,
        train_config=model_flags.train_config(),
        evaluation_config=model_flags.evaluation_config(),
        neighbour_table=table,
        parent=parent,
        epochs=FLAGS.epochs,
        curve=FLAGS.curve,
    )
    return run_seeds.train_and_rank(run, model_flags.seeds(), seeds_at_once=FLAGS.seeds_at_once)


def _baseline_result(log: EventLog) -> run_seeds.SeedResult:
    started = time.perf_counter()
    ranking = run_seeds.rank_baseline(log)
    seconds = time.perf_counter() - started
    figures = run_seeds.figures(0, ranking, log, model_flags.evaluation_config(), seconds)
    # Counting and ranking are one: there is no training to time.
    return run_seeds.SeedResult(
        figures | {"train_seconds": None, "train_events_per_second": None}, ranking
    )


def _report(folder: pathlib.Path, metrics: Mapping[str, Any]) -> None:
    cases = int(metrics["mean"]["cases"])
    print(f"\n{metrics['title']}: {cases:,} test cases, results in {folder}\n")
    run_folder.print_metrics([metrics])


if __name__ == "__main__":
    cli.run(main, hint=": add --resume to go on", defaults=continue_run.defaults)
