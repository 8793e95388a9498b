"""Full disks and damaged files: one line that names the file, and --resume loses nothing."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap

import polars as pl
import pytest

from experiments import compare, run
from tests.experiments.test_run import assert_refused, read_history
from tests.helpers import logs, runs

ROOT = pathlib.Path(__file__).parents[2]
GIVEN = (
    *("--dataset=events", "--events=log.csv", "--min_support=1", "--hidden_units=32"),
    *("--batch_size=30", "--dropout_session=0.2", "--epochs=3", "--output_dir=run"),
)
FILES = (
    *("recipe.json", "items.parquet", "data.json", "flags"),
    *("history.jsonl", "ranks.parquet", "recommended.parquet", "metrics.json"),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Make a folder with a log, its prepared folder, and an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    logs.write(folder / "log.csv")
    ended = process(folder)
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.fixture
def command(monkeypatch, capfd, tmp_path, whole):
    """Run experiments.run on the same log; returns (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(whole / "log.csv", "log.csv")
    shutil.copytree(whole / "out" / "prepared", "out/prepared")

    def call(*argv):
        code = runs.call(run.main, *GIVEN, *argv)
        return code, *capfd.readouterr()

    return call


def process(folder, *argv, largest=-1, after=0):
    """Run the command as a process in which no file grows beyond `largest` bytes.

    after: checkpoints that are saved before that.
    """
    code = f"""
        import resource
        from experiments import run
        from experiments.common import cli
        from hrnn_jax.files import checkpoint
        save, left = checkpoint.save, {after}

        def saved(*args, **settings):
            global left
            left -= 1
            if left < 0:
                resource.setrlimit(resource.RLIMIT_FSIZE, ({largest}, resource.RLIM_INFINITY))
            save(*args, **settings)

        checkpoint.save = saved
        cli.run(run.main)
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *GIVEN, *argv],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def assert_as_uninterrupted(result, whole):
    code, _, err = result
    assert code == 0, err
    runs = (whole / "run", pathlib.Path("run"))
    ranks, expected = (pl.read_parquet(folder / "ranks.parquet") for folder in runs)
    assert ranks.equals(expected)
    losses, expected = ([entry["loss"] for entry in read_history(folder)] for folder in runs)
    assert losses == expected


# The writer splits 100 kB of weights as its threads come: one file has 30 kB at least.
@pytest.mark.parametrize("largest", [1_000, 20_000, 30_000])
def test_a_disk_that_fills_up_in_training_costs_an_epoch(largest, command, whole, tmp_path):
    """Whichever file of the second checkpoint it is that does not fit, and without a word more.

    Bug: let the writer's own errors out of `save`.
    """
    ended = process(tmp_path, largest=largest, after=1)
    assert_refused(
        (ended.returncode, ended.stdout, ended.stderr), "run/checkpoint/seed_0/2", "room"
    )
    assert "File too large" in ended.stderr
    assert not (tmp_path / "run/checkpoint/seed_0/2").exists()
    result = command("--resume")
    assert "epoch 1/3" not in result[1]
    assert_as_uninterrupted(result, whole)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_written_is_named(name, command, whole):
    """... and there is no part of it, nor of any other, that would be in the way afterwards.

    Bug: leave the part that was written; keep it out of the names that a run folder may hold.
    """
    pathlib.Path("run").mkdir()
    pathlib.Path("run", f"{name}.partial").symlink_to("/dev/full")
    assert_refused(command(), f"cannot write run/{name}", "No space left on device")
    assert not list(pathlib.Path("run").glob("*.partial"))
    assert not pathlib.Path("run/metrics.json").exists()
    assert_as_uninterrupted(command("--resume"), whole)


def test_a_prepared_folder_that_does_not_fit_is_named(tmp_path, command):
    """Bug: expect nothing but OSError of polars."""
    shutil.rmtree("out")
    code = """if True:
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, -1))
        from experiments import run
        from experiments.common import cli
        cli.run(run.main)
    """
    ended = subprocess.run(
        [sys.executable, "-c", code, *GIVEN],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    refused = (ended.returncode, ended.stdout, ended.stderr)
    assert_refused(refused, "cannot write out/prepared", "File too large", "--prepared_dir")
    assert not list(pathlib.Path("out/prepared").iterdir())


def test_a_file_cut_off_by_a_kill_is_in_nobodys_way(command):
    """Bug: keep it out of the names that a run folder may hold."""
    pathlib.Path("run").mkdir()
    pathlib.Path("run/recipe.json.partial").write_text("{")
    assert command("--epochs=0")[0] == 0


@pytest.fixture
def damaged(command, whole):
    """Copy the uninterrupted run, as if it had stopped before it ranked."""
    shutil.copytree(whole / "run", "run")
    pathlib.Path("run/metrics.json").unlink()
    return command


@pytest.mark.parametrize("name", ["recipe.json", "history.jsonl"])
@pytest.mark.parametrize("how", ["half", "garbled"])
def test_damage_to_what_is_read_is_named(name, how, damaged):
    """Bug: let json's errors, or those of its decoding, out."""
    damage(pathlib.Path("run", name), how)
    assert_refused(damaged("--resume"), f"run/{name} is damaged", "remove")


@pytest.mark.parametrize("how", ["half", "garbled"])
def test_damaged_metrics_are_named(how, damaged, whole):
    shutil.copyfile(whole / "run/metrics.json", "run/metrics.json")
    damage(pathlib.Path("run/metrics.json"), how)
    assert_refused(damaged("--resume"), "run/metrics.json is damaged", "remove it and --resume")
    with pytest.raises(ValueError, match=r"run/metrics.json is damaged"):
        compare.main(["run"])
    pathlib.Path("run/metrics.json").unlink()
    assert damaged("--resume")[0] == 0


@pytest.mark.parametrize("name", ["items.parquet", "data.json", "flags"])
def test_what_a_run_can_write_anew_heals(name, damaged, whole):
    damage(pathlib.Path("run", name), "half")
    assert_as_uninterrupted(damaged("--resume"), whole)
    if name != "flags":
        assert pathlib.Path("run", name).read_bytes() == (whole / "run" / name).read_bytes()


@pytest.mark.parametrize("how", ["half", "flipped", "missing"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_goes_on(how, damaged, whole, tmp_path):
    """... to the same ranks, once the newest is removed as the error says.

    Bug: leave the threads of the reader their say.
    """
    newest = pathlib.Path("run/checkpoint/seed_0/3")
    largest = max(newest.rglob("*"), key=lambda path: path.is_file() and path.stat().st_size)
    damage(largest, how)
    ended = process(tmp_path, "--resume")
    assert_refused((ended.returncode, ended.stdout, ended.stderr), str(newest), "remove")
    told = re.search(r"cannot read the checkpoint (\S+) .*remove that folder", ended.stderr)
    shutil.rmtree(told[1])
    result = damaged("--resume")
    assert "epoch 3/3" in result[1]
    assert "epoch 2/3" not in result[1]
    assert_as_uninterrupted(result, whole)


def damage(path, how):
    content = bytearray(path.read_bytes())
    path.unlink()
    if how == "half":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif how == "garbled":
        path.write_bytes(bytes(255 - byte for byte in content))
