"""Flags: how they are refused, passed over, replayed and listed."""

import os
import pathlib
import subprocess
import sys

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments.common import cli, model_flags
from hrnn_jax import errors

ROOT = pathlib.Path(__file__).parents[3]
OLD = pathlib.Path(__file__).parents[2] / "data" / "run_format_1"


def test_a_byte_order_mark_does_not_hide_the_first_flag(tmp_path):
    path = tmp_path / "own.flags"
    path.write_text("--min_support=1\n--epochs=2\n", encoding="utf-8-sig")
    assert cli.expand([f"--flagfile={path}"]) == ["--min_support=1", "--epochs=2"]


def test_a_value_behind_a_space_is_joined_to_its_flag_and_a_boolean_flag_takes_none():
    """Bug: take the next argument for the value of every flag, or for one of flags not known."""
    assert {"epochs", "idle_gap"} <= {*flags.FLAGS}
    argv = ["--epochs", "-1", "--idle_gap", "--unknown", "word", "--epochs"]
    assert cli.expand(argv) == ["--epochs=-1", "--idle_gap", "--unknown", "word", "--epochs"]


def test_a_removed_flag_at_its_default_is_passed_over_in_a_flag_file():
    lines = (OLD / "hrnn_init" / "flags").read_text().splitlines()
    removed = {"--noinit_gate", "--warmup=0.0", "--clip=0.0", "--weight_decay=0.0"}
    removed |= {"--past=0", "--neighbours_weight=0.4"}
    assert removed < set(lines)
    expanded = cli.expand([f"--flagfile={OLD / 'hrnn_init' / 'flags'}"])
    orbax = {line for line in lines if line.startswith("--noexperimental_orbax")}
    assert len(orbax) == 2
    assert set(lines) - set(expanded) == removed | orbax


@pytest.mark.parametrize("line", ["--init_gate", "--past=64", "--weight_decay=0.01"])
def test_a_removed_flag_at_another_value_is_refused_with_its_file(line, tmp_path):
    path = tmp_path / "old.flags"
    path.write_text(f"--layers=2\n{line}\n")
    with pytest.raises(errors.InputError, match=f"{path}: {line} is not a flag .* any more"):
        cli.expand([f"--flagfile={path}"])


def test_an_argument_of_the_library_is_shown_as_its_flag(capsys):
    assert "layers" in flags.FLAGS
    assert model_flags.MODELS
    with pytest.raises(SystemExit) as stop:
        cli.fail(errors.InputError("`layers`=0: give 1 or more; `no_flag`=2"))
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: --layers=0: give 1 or more; no_flag=2\n"


def test_a_missing_package_is_answered_by_the_command_that_installs_it(capfd):
    with pytest.raises(SystemExit) as stop, cli.extra("serve"):
        raise ModuleNotFoundError(name="uvicorn.config")
    assert stop.value.code == 2
    assert capfd.readouterr().err == (
        f"error: the package uvicorn is missing: {cli.installs('serve')}\n"
    )
    with pytest.raises(SystemExit):  # the library knows no more than the extra's name
        cli.fail(errors.InputError("run: pip install 'hrnn_jax[journey]'"))
    assert capfd.readouterr().err == f"error: run: {cli.installs('journey')}\n"
    with pytest.raises(ModuleNotFoundError), cli.extra("serve"):
        raise ModuleNotFoundError(name="experiments.serving.gone")  # a fault of ours


@pytest.mark.parametrize(
    ("extra", "package", "command", "argv"),
    [
        ("serve", "fastapi", "serve", ["--run=.", "--port=0"]),
        ("report", "markdown_it", "comparison", ["--from=."]),
        ("tune", "optuna", "comparison", ["--logs=journey"]),
        ("bench", "psutil", "benchmark", ["--only=step"]),
    ],
)
def test_a_command_without_its_extra_ends_in_one_line(extra, package, command, argv, tmp_path):
    """Before any work. Bug: import the package outside `cli.extra`, or in another process alone."""
    code = (
        f"import runpy, sys; sys.modules[{package!r}] = None; sys.argv[0] = '-m'; "
        f"runpy.run_module('experiments.{command}', run_name='__main__', alter_sys=True)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-c", code, *argv]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: the package {package} is missing: ")
    assert done.stderr.endswith(f" -m pip install --editable '.[{extra}]'\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "does", ["print('a')", "print('a' * 100_000)", "print_table(['a'], [['b']] * 9_000)"]
)
def test_a_command_that_is_read_no_further_ends_silently(does):
    """Bug: `error: [Errno 32] Broken pipe`, or the interpreter's complaint at its end."""
    program = f"""
from experiments.common import cli
from experiments.common.text import print_table
def main():
    input()
    {does}
cli.run(main)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE},
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.close()
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.stderr
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--flagfile=vidoe.flags"], "no flag file 'vidoe.flags' here (did you mean video.flags?)"),
        (["--flagfile=own.flags"], "{path}/own.flags, line 3: --hiden_units is no flag of this"),
        (["--flagfile=own.flags", "--hiden_units=3"], "error: --hiden_units is no flag of this"),
        (
            ["--flagfile=bad.flags"],
            "{path}/bad.flags, line 1: --hidden_units=many: give an integer",
        ),
        (["--flagfile=outer.flags"], "{path}/outer.flags, line 2: no flag file 'xign.flags' here"),
        (
            ["--flagfile=word.flags"],
            "{path}/word.flags, line 2: 'dataset=events' is no flag: write",
        ),
        (["--flagfile=latin.flags"], "{path}/latin.flags is not in UTF-8: save"),
        (["--modle=rnn"], "--modle is no flag of this command: did you mean --model?"),
        (["--model=rnnn"], "did you mean rnn?"),
    ],
)
def test_a_near_miss_is_named_with_its_flag_file_and_line(
    argv, says, tmp_path, monkeypatch, capsys
):
    from experiments import run  # noqa: F401  it defines the flags

    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.flags").write_text("--min_support=1\n# units\n--hiden_units=8\n")
    (tmp_path / "bad.flags").write_text("--hidden_units=many\n")
    (tmp_path / "word.flags").write_text("--min_support=1\ndataset=events\n")
    (tmp_path / "latin.flags").write_text("# für Läden\n", encoding="latin-1")
    (tmp_path / "outer.flags").write_text("--min_support=1\n--flagfile=xign.flags\n")
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stop:
        cli.parse(["run", *argv], whole=True, defaults=list)
    assert stop.value.code == 2
    assert says.format(path=tmp_path) in capsys.readouterr().err
