"""Run the paper's whole evaluation, and write its tables and figures.

make reproduce-table3 SEEDS=2 SIZES=small
make reproduce

Each run (a model, a seed, a data set) is a process with a folder of its own, so that an interrupted
evaluation goes on where it stopped, a finished one has nothing left to do, and a changed flag
repeats only the runs that it touches.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import flags

from experiments import cli, live, plan, report, results, tables, workers
from hrnn_jax import errors

FLAGS = flags.FLAGS
flags.DEFINE_enum(
    "target",
    "all",
    ("table3", "all"),
    "What to make: 'table3' (Tables 1 to 4, Figures 3 to 6) or 'all' (Table 5 as well).",
)
flags.DEFINE_integer(
    "n_seeds", 10, "How many seeds, 0, 1, ..., each network is trained with.", lower_bound=1
)
flags.DEFINE_list("sizes", list(plan.SIZES), "Sizes of the networks: small, large or both.")
flags.DEFINE_string(
    "xing_events",
    None,
    "The RecSys Challenge 2016's interactions.csv; without it a simulated log stands in.",
)
flags.DEFINE_string(
    "video_events", None, "A log like the paper's VIDEO; without it a simulated log stands in."
)
flags.DEFINE_spaceseplist(
    "extra",
    [],
    "Further logs, each a column of its own: name=path:recipe, separated by spaces. The recipe is "
    "'video' or 'xing' (the paper's) or a flag file.",
)
flags.DEFINE_float(
    "scale", 0.15, "The users of Table 5's simulated log as a share, above 0, of VIDEOXXL's 810k."
)
flags.DEFINE_integer(
    "jobs",
    None,
    "Runs side by side, each with its share of the cores; by default one per core, with one thread "
    "each: at 100 units a second thread gives a run nothing.",
    lower_bound=1,
)
flags.DEFINE_bool(
    "run", True, "Whether to run what is missing; --norun reports on what is done so far."
)
flags.DEFINE_string("root", "out/reproduce", "The folder of the runs and of the report.")
flags.DEFINE_string("prepared_root", "out/prepared", "The folder that keeps prepared logs.")


def main() -> None:
    if not FLAGS.sizes or set(FLAGS.sizes) - set(plan.SIZES):
        raise errors.InputError(f"--sizes={','.join(FLAGS.sizes)}: give small, large or both")
    columns = plan.columns(
        xing_events=FLAGS.xing_events, video_events=FLAGS.video_events, extra=FLAGS.extra
    )
    cells = [(column, row) for column in columns for row in plan.rows(FLAGS.sizes)]
    if FLAGS.target == "all":
        xxl = plan.xxl(FLAGS.scale)
        columns.append(xxl)
        cells += [(xxl, row) for row in plan.networks("small")]
    root = pathlib.Path(FLAGS.root)
    with _alone(root):
        data, unprepared = _prepare(root, columns)
        prepared = {key: pathlib.Path(meta["prepared"]).name for key, meta in data.items()}
        ready = [(column, row) for column, row in cells if column.key in data]
        runs = plan.in_order(root, ready, FLAGS.n_seeds, prepared)
        failed = _make(runs, data) if FLAGS.run else {}
        done = [run for run in runs if is_done(run)]
        if done:
            tables.write(root / "results", done, data, failed=failed, command=command())
            report.write(root / "results", root)
    print(f"\n{len(done)} of {len(runs)} runs are done", end="")
    print(f"; the report is {root / 'report.html'}" if done else "")
    if unprepared or failed:
        for name, reason in {**unprepared, **{r.name: why for r, why in failed.items()}}.items():
            print(f"failed: {name}: {reason}", file=sys.stderr)
        sys.exit(1)


@contextlib.contextmanager
def _alone(root: pathlib.Path) -> Iterator[None]:
    """Keep a second reproduction out of the same folder."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise errors.InputError(
                f"another reproduction is at work in {root}: wait for it, or give another --root"
            ) from error
        yield


def _prepare(
    root: pathlib.Path, columns: Sequence[plan.Column]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Prepare all logs; return what each holds, by column, and why others could not be."""
    jobs = []
    for column in columns:
        described = root / "data" / column.key
        flags_ = (f"--json={described}.json", f"--prepared_dir={FLAGS.prepared_root}")
        jobs.append(
            workers.Job(column.key, ("experiments.describe", *column.flags, *flags_), described)
        )
    data, failed = {}, {}
    with live.view(f"preparing {len(jobs)} logs") as view:
        for outcome in _run(jobs, view.show):
            if outcome.error:
                failed[outcome.job.name] = outcome.error
            else:
                path = outcome.job.folder.with_name(outcome.job.folder.name + ".json")
                data[outcome.job.name] = json.loads(path.read_text())
    return {c.key: data[c.key] for c in columns if c.key in data}, failed


def _make(runs: Sequence[plan.Run], data: Mapping[str, Mapping[str, Any]]) -> dict[plan.Run, str]:
    """Make what is not yet done; return why runs failed."""
    todo = [run for run in runs if not is_done(run)]
    events = {key: meta["table1"]["train_events"] for key, meta in data.items()}
    clock = live.Clock(runs, events, side_by_side=_side_by_side())
    by_name = {run.name: run for run in todo}
    jobs = [workers.Job(run.name, run.argv(FLAGS.prepared_root), run.folder) for run in todo]
    failed: dict[plan.Run, str] = {}
    ended = len(runs) - len(todo)
    if ended:
        print(f"{ended} of {len(runs)} runs were done before", flush=True)
    with live.view("") as view:

        def show(running: list[workers.Running]) -> None:
            left = clock.left(todo, {by_name[r.job.name]: r.started for r in running})
            text = f"{ended} of {len(runs)} runs done"
            text += f", {len(failed)} failed" if failed else ""
            text += f", about {live.duration(left)} left" if left is not None else ""
            view.title = text
            view.show(running, [live.progress(by_name[r.job.name]) for r in running])

        for outcome in _run(jobs, show):
            run = by_name[outcome.job.name]
            todo.remove(run)
            if outcome.error:
                failed[run] = outcome.error
                said = f"FAILED: {outcome.error} (see {workers.log_of(outcome.job)})"
            else:
                ended += 1
                clock.learn(run)
                recall = results.read_metrics(run.folder)["mean"][f"recall@{tables.CUTOFF}"]
                said = f"Recall@{tables.CUTOFF} {recall:.4f}"
            place = f"[{ended + len(failed)}/{len(runs)}]"
            view.say(f"{place} {run.name}: {said}, {live.duration(outcome.seconds)}")
    return failed


def _run(jobs: Sequence[workers.Job], show: Any) -> Iterator[workers.Outcome]:
    outcomes = workers.run(jobs, side_by_side=_side_by_side(), on_poll=show)
    with contextlib.closing(outcomes):
        yield from outcomes


def is_done(run: plan.Run) -> bool:
    """Say whether a run has ended, and measured what the tables need."""
    metrics = results.read_metrics(run.folder)
    return metrics is not None and metrics["cutoffs"] == list(plan.CUTOFFS)


def command() -> str:
    """Return the make command that this is."""
    goal = "reproduce-table3" if FLAGS.target == "table3" else "reproduce"
    words = [f"make {goal} SEEDS={FLAGS.n_seeds} SIZES={','.join(FLAGS.sizes)}"]
    words += [f"XING_EVENTS={FLAGS.xing_events}"] if FLAGS.xing_events else []
    words += [f"VIDEO_EVENTS={FLAGS.video_events}"] if FLAGS.video_events else []
    words += [f'EXTRA="{" ".join(FLAGS.extra)}"'] if FLAGS.extra else []
    words += [f"SCALE={FLAGS.scale:g}"] if FLAGS.target == "all" else []
    return " ".join(words)


def _side_by_side() -> int:
    return FLAGS.jobs or workers.cores()


if __name__ == "__main__":
    cli.run(main, hint=": the same command goes on")
