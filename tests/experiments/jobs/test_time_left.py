"""The time left of runs of very different length, on a made schedule."""

import json

import pytest

from experiments.jobs import grid
from experiments.jobs.paper_rows import ROWS
from experiments.jobs.time_left import (
    START_SECONDS,
    Durations,
    LogSize,
    Speed,
    seconds_left,
    shipped_speeds,
)
from experiments.paper.collect import device

# A log 40 times the other, as an evaluation of real logs has them.
LOGS = {"tiny": LogSize(30_000, 3_000), "big": LogSize(1_200_000, 120_000)}
EPOCHS = 10
KEYS = ("ppop", "vsknn", "rnn_small", "hrnn_init_small", "rnn_large", "hrnn_init_large")
# Seconds for an event and for a case: what the rows truly take on this machine.
TRUE = dict(
    zip(
        KEYS,
        [(0, 1e-5), (0, 1e-3), (1e-5, 1e-4), (2e-5, 1e-4), (1e-4, 1e-3), (4e-4, 1e-3)],
        strict=True,
    )
)


def runs(folder):
    """Return the runs of 2 seeds in the order in which they are made."""
    cells = [(grid.Column(key, ()), ROWS[row]) for key in LOGS for row in KEYS]
    placed = [
        grid.Run(
            column, row, seed, EPOCHS if row.size else 0, folder / f"{column.key}_{row.key}_{seed}"
        )
        for column, row in cells
        for seed in range(2 if row.size else 1)
    ]
    return sorted(placed, key=lambda run: ((None, "small", "large").index(run.row.size), run.seed))


def seconds(run, busy=1.0):
    log, (per_event, per_case) = LOGS[run.column.key], TRUE[run.row.key]
    work = run.epochs * log.events * per_event + log.cases * per_case
    return START_SECONDS + busy * work


def finish(run, busy=1.0):
    """Write what a run measured; a busy machine takes so many times longer."""
    per_event, per_case = (busy * value for value in TRUE[run.row.key])
    figures = {
        "train_events_per_second": 1 / per_event if per_event else None,
        "eval_cases_per_second": 1 / per_case,
    }
    run.folder.mkdir()
    metrics = {"epochs": run.epochs, "per_seed": [figures]}
    (run.folder / "metrics.json").write_text(json.dumps(metrics))


def shipped(factor):
    """Return speeds as they are shipped, of a machine that takes `factor` as long, on one log."""
    return [
        Speed("xing", key, ROWS[key].size, EPOCHS, factor * per_event, factor * per_case)
        for key, (per_event, per_case) in TRUE.items()
    ]


@pytest.mark.parametrize("factor", [0.2, 1, 3])
def test_the_estimate_is_near_from_the_first_ended_run_to_the_last(tmp_path, factor):
    """One small network of seed 0 met a busy machine, and took 20 times as long."""
    pending = runs(tmp_path)
    durations = Durations(pending, LOGS, shipped(factor))
    assert durations.left(pending[0], 0) is None  # nothing has ended here yet
    while len(pending) > 1:
        ended = pending.pop(0)
        finish(ended, busy=20 if ended.name == "big rnn_small seed 0" else 1)
        durations.learn(ended)
        left = seconds_left([durations.left(run, 0) for run in pending], 1)
        truth = sum(map(seconds, pending))
        assert 0.75 < left / truth < 1.34, (ended.name, left, truth)
    assert Durations(runs(tmp_path), LOGS, shipped(factor)).left(pending[0], 0) == pytest.approx(
        durations.left(pending[0], 0)
    )


def test_a_run_that_trains_is_measured_by_its_own_epochs(tmp_path):
    """Also after it was cut off: what an earlier process trained is not to come again."""
    [*_, run] = runs(tmp_path)
    durations = Durations([], LOGS, shipped(1))
    assert durations.left(run, 10) is None
    run.folder.mkdir()
    entries = [{"seed": run.seed, "epoch": epoch, "seconds": 100.0} for epoch in range(1, 9)]
    (run.folder / "history.jsonl").write_text("\n".join(map(json.dumps, entries)))
    assert durations.left(run, 1) == 200  # 2 of 10 epochs; how long ranking takes is not known
    other = runs(tmp_path)[0]
    finish(other)
    durations.learn(other)
    assert durations.left(run, 1) == pytest.approx(200 + 120_000 * 1e-3)


def test_several_runs_of_a_row_on_a_log_count_more_than_the_shipped_ones(tmp_path):
    [column] = [grid.Column("big", ())]
    own = [
        grid.Run(column, ROWS["rnn_small"], seed, EPOCHS, tmp_path / str(seed)) for seed in range(4)
    ]
    for run in own[:3]:
        finish(run)
    wrong = [Speed("big", "rnn_small", "small", EPOCHS, 1.0, 1.0)]
    expected = Durations(own, LOGS, wrong).left(own[3], 0)
    assert expected == pytest.approx(seconds(own[3]))


def test_a_row_that_stops_early_on_a_log_is_expected_to_stop_there_again(tmp_path):
    column, row = grid.Column("big", ()), ROWS["hrnn_init_large"]
    run = grid.Run(column, row, 0, EPOCHS, tmp_path / "run")
    speeds = [s for s in shipped(1) if s.row == row.key]
    stopped = [s._replace(column="big", epochs=1) for s in speeds]
    quick = runs(tmp_path)[0]
    finish(quick)
    whole, early = (
        Durations([quick], LOGS, [*shipped(1), *more]).left(run, 0) or 0 for more in ([], stopped)
    )
    per_event, _ = TRUE[row.key]
    assert whole - early == pytest.approx(9 * LOGS["big"].events * per_event)


def test_a_log_of_one_held_out_event_a_session_has_cases():
    """Bug: take all events but the first of each session, none here, and divide by their time."""
    counts = {"train_events": 900, "train_sessions": 300, "test_events": 300, "test_sessions": 300}
    assert LogSize.of({"table1": counts, "cases": 300}) == LogSize(600, 300)


def test_the_time_left_by_hand():
    assert seconds_left([], 2) is None
    assert seconds_left([None, 20], 2) is None
    assert seconds_left([20] * 4, 2) == 40
    assert seconds_left([20], 2) == 20  # one run is not cut in two


def test_the_shipped_runs_have_the_speed_of_every_kind_of_row():
    found = shipped_speeds()
    assert {speed.size for speed in found} == {None, "small", "large"}
    assert {speed.row for speed in found} >= {"ppop", "rnn_small", "rnn_large", "hrnn_plus"}
    assert all(speed.per_case > 0 for speed in found)
    assert all((speed.per_event > 0) == (speed.size is not None) for speed in found)


def test_runs_on_a_gpu_do_not_tell_how_long_others_take(tmp_path):
    """Bug: read the speeds of all runs."""
    path = tmp_path / "runs.csv"
    path.write_text(
        "column,row,epochs,train_events_per_second,eval_cases_per_second,device\n"
        "xing,rnn_large,10,1000,50,cpu\n"
        "xing,rnn_large,10,90000,5000,gpu\n"
    )
    assert [speed.per_event for speed in shipped_speeds([path])] == [1e-3]


def test_what_computed_an_earlier_run_is_known_from_its_machine():
    """Bug: take all runs without the field for those of a processor."""
    processor, gpu = "AMD EPYC, 2 cores", "1 x NVIDIA H100 80GB HBM3"
    assert [device({"machine": machine}) for machine in (processor, gpu)] == ["cpu", "gpu"]
    assert device({"machine": processor, "device": "gpu"}) == "gpu"
