"""The comparison with made peers: processes, rows, and the report's tables."""

import dataclasses
import pathlib
import sys

import pytest

from experiments.bench import record, report, timing
from experiments.bench.peers import compare, contenders, table
from experiments.bench.peers.contenders import Library, Ours, Peer
from experiments.jobs.grid import Column
from hrnn_jax import errors
from tests.helpers import logs

MADE = {"commit": "abc", "machine": "m", "finished": "2026-01-02", "threads": {}, "load": 1.0}
# 40 events/s in training, 1 case/s in ranking.
SCRIPT = """
import json, sys, zipfile
model, log, scratch, seconds = sys.argv[1:]
print("some warning")
assert "item.npy" in zipfile.ZipFile(log).namelist()
open(scratch + "/made", "w").close()
if model == "broken":
    raise ValueError("no such model")
print(json.dumps({"events": 80, "seconds": 2.0, "cases": 90, "rank_seconds": 90.0,
                  "settings": "4 units", "versions": {"made": "1.0"}}), flush=True)
print("and more")
"""


@dataclasses.dataclass(frozen=True)
class Made(Library):
    """A library with a script of the test's own."""

    folder: pathlib.Path

    @property
    def script(self):
        return self.folder / "script.py"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Compare contenders on a small log; a function of these."""
    library = Made("made", "Made", tmp_path)
    library.script.write_text(SCRIPT)
    monkeypatch.setattr(compare, "LIBRARIES", (library,))
    monkeypatch.setattr(compare, "install", lambda library, folder: pathlib.Path(sys.executable))
    monkeypatch.setattr(compare, "SECONDS", 0)
    events = logs.write(tmp_path / "log.csv")
    column = Column("mine", ("--dataset=events", f"--events={events}", "--min_support=1"))
    settings = timing.Settings(1, 1, 1.0, 1, tmp_path / "prepared", tmp_path / "scratch")

    def call(*models, ours=()):
        peers = [Peer(model, library, model) for model in models]
        all_of_them = (*peers, *(Ours(name, name, flags, peers[0]) for name, flags in ours))
        for module in (compare, table):
            monkeypatch.setattr(module, "CONTENDERS", all_of_them)
        parts = compare.compare(settings, column, tmp_path / "peers")
        return {f"peers/mine/{name}": row for name, row in parts.items()}

    return call


def test_what_processes_print_becomes_rows_and_a_table(run, tmp_path):
    """Bug: divide a turn of ours by another turn of the peer."""
    flags = ("--model=rnn", "--hidden_units=4", "--batch_size=10")
    rows = run("good", ours=[("RNN", flags)])
    good, rnn = (rows[f"peers/mine/{key}/training"] for key in ("good", "RNN"))
    assert good.measured == [40.0]
    assert rows["peers/mine/good/ranking"].measured == [1.0]
    assert all(5e6 < peak < 1e8 for peak in rows["peers/mine/good/peak memory"].measured)
    about_log = "mine, real events: 30 users, 600 training events, 20 items, 90 test cases"
    assert [*good.notes] == [about_log, "4 units; made 1.0"]
    assert rnn.measured[0] > 0
    assert "batch 10" in rnn.notes[1]
    rnn = dataclasses.replace(rnn, measured=[80.0, 120.0])
    good = dataclasses.replace(good, measured=[40.0, 30.0])  # ratios 2 and 4
    rows |= {"peers/mine/good/training": good, "peers/mine/RNN/training": rnn}
    path = tmp_path / "record.json"
    record.add(path, rows, MADE)
    text = report.write(path, tmp_path, order=[]).read_text()
    [line] = [line for line in text.splitlines() if line.startswith("| RNN ")]
    assert line.startswith("| RNN | 100 events/s (80 .. 120) = 3 x Made good | ")
    assert text.count(about_log) == 1
    assert "floor" not in text


def test_a_failing_peer_is_one_line(run):
    """Bug: report the first line, a warning."""
    with pytest.raises(errors.InputError, match=r"^Made broken: ValueError: no such model$"):
        run("good", "broken")


def test_every_peer_has_its_files():
    for peer in (each for each in contenders.CONTENDERS if isinstance(each, Peer)):
        assert peer.library in contenders.LIBRARIES
        assert peer.library.script.is_file()
        pinned = [
            line
            for line in peer.library.requirements.read_text().splitlines()
            if not line.startswith("#")
        ]
        assert all("==" in line for line in pinned)
        assert f'"{peer.model}": ' in peer.library.script.read_text()


def test_the_logs_are_names_or_files(tmp_path):
    path = logs.write(tmp_path / "log.csv")
    named = compare.tasks(["journey", f"mine={path}:checkins.flags"], tmp_path)
    assert [*named] == ["peers/journey", "peers/mine"]
    for texts, match in ((["journey", "journey"], "two are named journey"), (["jorney"], "jorney")):
        with pytest.raises(errors.InputError, match=match):
            compare.tasks(texts, tmp_path)
