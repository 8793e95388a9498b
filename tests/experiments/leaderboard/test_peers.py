"""Rows of other libraries, with a made peer in place of RecTools: its scores are ranked as ours."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from experiments.common import cli
from experiments.jobs.grid import Column, Run
from experiments.jobs.paper_rows import Row, chosen_rows
from experiments.leaderboard import collect, grid, peer_scores
from experiments.paper.collect import run_frame
from hrnn_jax import errors
from hrnn_jax.baselines import sparse_ranking
from hrnn_jax.config import MODELS, EvaluationConfig
from hrnn_jax.presets import NAMES
from tests.helpers import logs

ROOT = pathlib.Path(__file__).parents[3]
# Scores by training events, from below 0; of item 0 it knows nothing.
SCRIPT = """
import json, sys
import numpy as np
model, log, out, search, scratch, seconds, trials = sys.argv[1:]
print("trains", model)
if model == "hstu":
    raise ValueError("out of memory")
file = np.load(log)
support = np.bincount(file["item"][~file["test"]], minlength=int(file["n_items"]))
cases = file["test"] & (np.diff(file["session"], prepend=-1) == 0)
scores = np.tile(support - 100.0, (np.count_nonzero(cases), 1)).astype(np.float32)
scores[:, 0] = -np.inf
np.save(out, scores if model == "sasrec" else scores[1:])
found = {"trials": 3, "value": 0.25, "settings": {"lr": 0.001}, "seconds": 40, "device": "H100"}
open(search, "w").write(json.dumps(found | {"versions": {"rectools": "0.19.0"}}))
open("trained", "a").write(model + " ")
"""


@pytest.fixture
def peers(tmp_path, monkeypatch):
    """The plugin with a made peer; what it registers is forgotten after the test."""
    monkeypatch.chdir(tmp_path)
    known, names = [*MODELS], dict(NAMES)
    sys.modules.pop("experiments.leaderboard.peers", None)
    from experiments.leaderboard import peers

    (tmp_path / "script.py").write_text(SCRIPT)
    monkeypatch.setattr(peer_scores, "SCRIPT", tmp_path / "script.py")
    python = pathlib.Path(sys.executable)
    monkeypatch.setattr(peer_scores, "install", lambda library, folder: python)
    yield peers
    MODELS[:] = known
    NAMES.clear()
    NAMES.update(names)
    sys.modules.pop("experiments.leaderboard.peers", None)


def test_scores_of_a_peer_are_ranked_and_kept(peers, tmp_path):
    """Bugs: train again to rank without the session's items, rank what it does not know first."""
    log = logs.random(0, users=20, sessions=5, n_items=12)
    support = log.support
    scorer = peers.scorer_of("sasrec")
    ranking = sparse_ranking.rank_cases(log, scorer(log), EvaluationConfig())
    targets = log.item[log.cases]
    lowest = support[1:].min()
    for target, rank in zip(targets.tolist(), ranking.rank.tolist(), strict=True):
        if target == 0 or support[target] == lowest:
            assert rank == log.n_items  # scores nothing, so all that are left are before it
        else:
            assert rank == np.count_nonzero(support[1:] >= support[target])
    without = EvaluationConfig(exclude_session_items=True)
    again = sparse_ranking.rank_cases(log, scorer(log), without).rank
    assert (again != ranking.rank).any()
    assert (tmp_path / "trained").read_text() == "sasrec "
    other = logs.random(1, users=20, sessions=5, n_items=12)
    sparse_ranking.rank_cases(other, scorer(other), EvaluationConfig())
    assert (tmp_path / "trained").read_text() == "sasrec sasrec "


def test_a_task_that_predicts_fewer_events_is_ranked_by_the_scores_of_these(peers, tmp_path):
    """Bug: the scores that were kept of all events, one after the other, for those of the task."""
    log = logs.random(0, users=20, sessions=5, n_items=12)
    scorer, config = peers.scorer_of("sasrec"), EvaluationConfig()
    whole = sparse_ranking.rank_cases(log, scorer(log), config).rank
    is_target = np.arange(len(log)) % 3 == 0
    fewer = dataclasses.replace(log, target=is_target)
    assert 0 < len(fewer.cases) < len(log.cases)
    found = sparse_ranking.rank_cases(fewer, scorer(fewer), config).rank
    np.testing.assert_array_equal(found, whole[is_target[log.cases]])
    assert (tmp_path / "trained").read_text() == "sasrec "


def test_a_peer_that_fails_is_named_in_one_line_and_keeps_nothing(peers):
    log = logs.random(0, users=20, sessions=5, n_items=12)
    with pytest.raises(errors.InputError, match=r"`model`=hstu: RecTools .*: out of memory"):
        peers.scorer_of("hstu")(log)
    with pytest.raises(errors.InputError, match=r"scores of the shape .* for `model`=ligr"):
        peers.scorer_of("ligr")(log)
    assert not [*pathlib.Path("out/peers/scores").rglob("*.npy")]


def test_what_a_peer_has_chosen_and_spent_is_in_the_files_of_the_leaderboard(peers, tmp_path):
    """Bug: the seconds and the processor of the run that only read the scores."""
    log = peer_scores.every_case(logs.random(0, users=20, sessions=5, n_items=12))
    assert peer_scores.search("sasrec", log) is None
    peer_scores.made("sasrec", log)
    found = peer_scores.search("sasrec", log)
    assert found is not None
    cells = {("news", "sasrec"): found}
    chosen = collect.peers_chosen(cells)
    assert chosen.select("column", "row", "trials", "value").unique().rows() == [
        ("news", "sasrec", 3, 0.25)
    ]
    assert dict(chosen.select("key", "setting").iter_rows()) == {
        "lr": "0.001",
        "seconds": "40",
        "device": "H100",
        "rectools": "0.19.0",
    }
    counted = {"train_seconds": None, "train_events_per_second": None}
    of_seed = {"cases": 7, "eval_cases_per_second": 9.5, **counted}
    made = {"commit": "c", "machine": "1 core", "device": "cpu", "finished": "today"}
    runs = []
    for key in ("sasrec", "sr"):
        runs.append(Run(Column("news", ()), Row(key, None, ()), 0, 0, tmp_path / key))
        runs[-1].folder.mkdir()
        metrics = json.dumps({"per_seed": [of_seed], "epochs": 0, "made": made})
        (runs[-1].folder / "metrics.json").write_text(metrics)
    frame = run_frame(runs)  # Bug: no column for seconds where no row of the log was trained here
    first, second = collect.with_peers(frame, cells).to_dicts()
    assert second == frame.row(1, named=True)
    assert first == frame.row(0, named=True) | {
        **{"train_seconds": 40, "machine": "H100", "device": "gpu", "eval_cases_per_second": None}
    }


def test_rows_of_peers_and_of_other_options_are_run_only_where_they_are_named():
    assert {*grid.ROWS} - {*grid.USUAL_ROWS} == {*grid.PEERS, *grid.OPTIONS}
    assert chosen_rows(["sasrec", "sr"], grid.ROWS) == ["sr", "sasrec"]
    for key in grid.PEERS:
        assert "--plugin=experiments.leaderboard.peers" in cli.expand(grid.row_flags(key))


def test_a_run_of_a_peer_has_the_files_of_any_run(tmp_path):
    """The whole command, with the environment and the script of a made peer."""
    made = tmp_path / "made.py"
    made.write_text(
        "import pathlib, sys\n"
        "from experiments.leaderboard import peer_scores\n"
        f"peer_scores.SCRIPT = pathlib.Path({str(tmp_path / 'script.py')!r})\n"
        "peer_scores.install = lambda library, folder: pathlib.Path(sys.executable)\n"
        "from experiments.leaderboard import peers\n"
    )
    (tmp_path / "script.py").write_text(SCRIPT)
    log = logs.write(tmp_path / "log.csv")
    argv = ["--plugin=made", "--model=sasrec", f"--events={log}", "--dataset=events"]
    argv += ["--min_support=1", "--exclude_session_items", "--output_dir=out/run"]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.run", *argv],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "out/run/metrics.json").read_text())
    assert metrics["name"] == "SASRec (RecTools)"
    assert metrics["exclude_session_items"]
