"""What every command answers before jax is loaded: its help, and flags that are wrong."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

from experiments.__main__ import COMMANDS, main

ROOT = pathlib.Path(__file__).parents[2]
# Calls each command in a copy of a process that has loaded what most of them need.
CALLS = """
import json, os, runpy, sys
import absl.app, fastapi, numpy, optuna, polars, rich.table

for number, (name, *argv) in enumerate(json.loads(sys.argv[1])):
    if os.fork() == 0:
        sys.stdout, sys.stderr = (open(f"{number}.{stream}", "w") for stream in ("out", "err"))
        sys.argv, code = [name, *argv], 0
        try:
            runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
        except SystemExit as stop:
            code = stop.code or 0
        loaded = sorted({"jax", "matplotlib"} & sys.modules.keys())
        open(f"{number}.json", "w").write(json.dumps([code, loaded]))
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(0)
    os.wait()
"""
WRONG = {
    ("run", "--hiden_units=8"): "did you mean --hidden_units?",
    ("run", "--hidden_units=0"): "--hidden_units=0: give a number from 1 to 100000",
    ("run", "--learning_rate=nan"): "--learning_rate=nan: give a finite number",
    ("run", "--model=ppop", "--hidden_units=8"): "--hidden_units is not used by --model=ppop",
    ("run", "--regularisation=1"): "has no effect without --loss=bpr_max",
    ("run", "--min_support=0"): "--min_support=0: give 1 or more",
    ("run", "--cutoffs=0"): "--cutoffs=0: give distinct whole numbers from 1",
    ("run", "--dataset=events", "--events=none.csv"): "none.csv",
    ("run", "--flagfile=vidio.flags"): "no flag file 'vidio.flags'",
    ("run", "video.flags"): "unexpected argument 'video.flags'",
    ("tune", "--trials=0"): "--trials=0: give 1 or more",
    ("tune", "--objective=hits@5"): "--objective=hits@5: give one of",
    ("tune", "--user_share=2"): "--user_share=2: give a number above 0, at most 1",
    ("serve", "--port=65536"): "--port=65536: give a number from 0 to 65535",
    ("serve", "--run=.", "--token_file=none"): "--token_file=none",
    ("export", "--seed=-1"): "seed",
    ("benchmark", "--repeats=0"): "--repeats=0: give 1 or more",
    ("check_gpu", "--minutes=inf"): "--minutes=inf: give a finite number",
    ("reproduce", "--scale=0"): "--scale=0: give a number above 0",
    ("compare", "--metric=mrr"): "--metric is no flag of this command",
    ("report", "a", "b", "c"): "name the results folder",
}
HELP = [*((name, "--help") for name in COMMANDS), ("run", "-h"), ("run", "--helpfull")]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Call the commands; returns their exit codes, the slow modules they loaded, output, errors."""
    folder = tmp_path_factory.mktemp("calls")
    calls = [*WRONG, *HELP]
    command = [sys.executable, "-c", CALLS, json.dumps(calls)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "COLUMNS": "80"}
    subprocess.run(command, check=True, cwd=folder, env=environment)
    texts = [
        [(folder / f"{number}.{stream}").read_text() for stream in ("out", "err")]
        for number in range(len(calls))
    ]
    codes = [json.loads((folder / f"{number}.json").read_text()) for number in range(len(calls))]
    return {call: (*codes[i], *texts[i]) for i, call in enumerate(calls)}


@pytest.mark.parametrize("call", [*WRONG, *HELP], ids=" ".join)
def test_neither_help_nor_a_wrong_flag_waits_for_jax(answers, call):
    assert answers[call][1] == []


@pytest.mark.parametrize("call", WRONG, ids=" ".join)
def test_a_wrong_flag_is_refused_in_one_line(answers, call):
    code, _, _, err = answers[call]
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert WRONG[call] in err


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_the_terminal(answers, name):
    code, _, out, err = answers[name, "--help"]
    assert (code, err) == (0, "")
    prose = [line for line in out.splitlines() if "python -m" not in line and "make " not in line]
    assert max(map(len, prose)) <= 80


def test_help_has_every_flag_of_the_command_once_in_its_group(answers):
    groups = {
        "Data": ["dataset", "events", "min_support", "split", "simulate_scale"],
        "Model": ["model", "hidden_units", "leak", "neighbours", "boost"],
        "Training": ["loss", "learning_rate", "epochs", "seeds", "curve", "continue_from"],
        "Evaluation": ["cutoffs", "ties", "candidates"],
        "Output": ["output_dir", "resume", "compilation_cache"],
    }
    page = answers["run", "--help"][2]
    assert answers["run", "-h"][2] == page
    blocks = {block.partition("\n")[0]: block for block in page.split("\n\n")}
    assert list(groups) == [title for title in blocks if title in groups]
    for title, names in groups.items():
        for name in names:
            assert len(re.findall(rf"^  --(?:\[no\])?{name}\b", page, re.MULTILINE)) == 1
            assert re.search(rf"^  --(?:\[no\])?{name}\b", blocks[title], re.MULTILINE), name
    assert (
        "  --hidden_units=N  (default 100; a number from 1 to 100000; networks)\n      Units H"
        in page
    )
    assert "  --user_input=full|gates  (default full; hrnn_all)\n" in page
    assert "  --[no]resume  (default no)\n" in page
    assert "--verbosity" not in page
    assert "--verbosity" in answers["run", "--helpfull"][2].partition("Flags of absl")[2]


@pytest.mark.parametrize("module", ["experiments", "experiments.run"])
def test_help_that_is_read_no_further_ends_without_a_word(module):
    """As before `| head -1`, but for certain: nobody reads from the start. Bug: a traceback."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == 128 + signal.SIGPIPE


@pytest.mark.parametrize(
    ("argv", "code", "line"),
    [
        (["--help"], 0, "usage: hrnn-jax COMMAND"),
        (["-h"], 0, "usage: hrnn-jax COMMAND"),
        ([], 2, "usage: hrnn-jax COMMAND"),
        (["rnu"], 2, "error: 'rnu' is no command: did you mean run?\n"),
        (["--model=rnn"], 2, "error: '--model=rnn' is no command: --help lists all\n"),
    ],
)
def test_the_console_command_lists_its_commands(monkeypatch, capsys, argv, code, line):
    monkeypatch.setattr(sys, "argv", ["hrnn-jax", *argv])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    assert stop.value.code == code
    assert (err if code else out).startswith(line)
    assert line.startswith("error") or all(f"  {name} " in out + err for name in COMMANDS)
