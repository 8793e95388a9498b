"""describe.py: Tables 1 and 4 next to the paper's, the events' hash, one line for a wrong log."""

import json
import pathlib
import subprocess
import sys

import polars as pl
import pytest

from experiments import describe
from hrnn_jax.preprocess import prepared
from hrnn_jax.preprocess.datasets import PUBLIC_LOGS
from hrnn_jax.preprocess.event_hash import event_hash
from hrnn_jax.preprocess.statistics import PAPER, ROWS, measure, table1, table4
from tests.helpers import logs
from tests.hrnn_jax.preprocess.test_statistics import LOG


@pytest.mark.parametrize("shape", ["xing", "video", "videoxxl", None])
@pytest.mark.parametrize("data", ["real", "simulated"])
def test_all_rows_are_printed_next_to_the_papers(shape, data, capsys):
    meta = {"name": "events", "shape": shape, "data": data}
    meta |= {"table1": table1(measure(LOG)), "table4": table4(measure(LOG))}
    describe.print_tables(meta)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert [line.split("  ")[0].strip() for line in lines[1:]] == list(ROWS.values())
    assert f"({data})" in lines[0]
    assert ("paper's" in lines[0]) == (shape is not None)
    assert "1/1.6/1.0" in lines[6]
    assert "50.00%" in lines[-1]
    for number in PAPER.get(shape, {}).values():
        assert any(line.endswith(f" {number}") for line in lines)


def test_the_command_prints_tables_and_refuses_in_one_line(tmp_path):
    def run(*given: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "experiments.describe", f"--prepared_dir={tmp_path}"]
        return subprocess.run([*command, *given], capture_output=True, text=True, check=False)

    described = tmp_path / "described.json"
    simulated = ("--dataset=simulated", "--simulate_shape=xing", "--simulate_scale=0.01")
    good = run(*simulated, f"--json={described}")
    assert good.returncode == 0, good.stderr
    assert "xing (simulated)" in good.stdout
    assert "11,479" in good.stdout
    about = json.loads(described.read_text())
    sha256 = event_hash(prepared.load(pathlib.Path(about["prepared"])))
    assert about["events_sha256"] == sha256
    assert about["cases"] == len(prepared.load(pathlib.Path(about["prepared"])).cases)
    assert good.stdout.splitlines()[-1] == f"prepared events SHA-256 {sha256}"
    bad = run("--dataset=events", "--events=nowhere.csv")
    assert bad.returncode == 2
    assert len(bad.stderr.splitlines()) == 1
    assert "nowhere.csv" in bad.stderr
    assert "--events" in bad.stderr


def test_a_known_log_is_named_whatever_its_ids_are_called(call, tmp_path, monkeypatch):
    log = logs.write(tmp_path / "log.csv")
    about = ("--dataset=events", "--min_support=1")
    _, out, _ = call(describe.main, *about, f"--events={log}")
    last = out.splitlines()[-1]
    monkeypatch.setitem(PUBLIC_LOGS, last.split()[-1], "Made log")
    number = {"user_id": "^u", "item_id": "^i"}  # 9 is after 10 as text, and before it as a number
    renamed = pl.read_csv(log).with_columns(
        -pl.col(name).str.replace(letter, "").cast(pl.Int64) for name, letter in number.items()
    )
    renamed.write_parquet(tmp_path / "renamed.parquet")
    _, out, _ = call(describe.main, *about, f"--events={tmp_path / 'renamed.parquet'}")
    assert out.splitlines()[-1] == f"{last} (Made log)"
