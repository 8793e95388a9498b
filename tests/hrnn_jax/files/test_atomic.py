"""A file is written whole or not at all, and the error names it."""

import os
import pathlib
import shutil

import polars as pl
import pytest

from hrnn_jax import errors
from hrnn_jax.files import atomic

FRAME = pl.DataFrame({"a": range(1000)})


@pytest.mark.parametrize("content", ["new", b"new", lambda partial: partial.write_text("new")])
def test_a_text_bytes_or_function_replaces_the_file(content, tmp_path):
    """Bug: leave the partial file."""
    path = tmp_path / "file"
    path.write_text("old")
    atomic.write(path, content)
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", ["new", FRAME.write_parquet, FRAME.write_csv])
def test_a_full_disk_keeps_the_old_file_and_names_it(content, tmp_path):
    """Bug: catch OSError alone: polars raises errors of its own."""
    path = tmp_path / "file"
    path.write_text("old")
    (tmp_path / "file.partial").symlink_to("/dev/full")
    says = f"cannot write {path}: No space left on device; make room there, or choose another fold"
    with pytest.raises(errors.InputError, match=says):
        atomic.write(path, content)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_other_errors_pass_through_and_leave_nothing(tmp_path):
    """Bug: remove the partial file only after the operating system's errors."""

    def fail(partial):
        partial.write_text("half")
        raise ValueError("a fault of the caller")

    with pytest.raises(ValueError, match="a fault of the caller"):
        atomic.write(tmp_path / "file", fail)
    with pytest.raises(ValueError, match="a fault"), atomic.writing(tmp_path / "file") as partial:
        fail(partial)
    assert not list(tmp_path.iterdir())


def test_a_folder_appears_whole(tmp_path):
    """Bug: yield the path itself."""
    path = tmp_path / "above" / "folder"
    with atomic.writing(path) as partial:
        partial.mkdir()
        (partial / "a").write_text("1")
        assert not path.exists()
    assert [file.name for file in path.iterdir()] == ["a"]
    assert [*path.parent.iterdir()] == [path]


def test_a_link_to_a_folder_that_is_replaced_leads_to_the_new_one(tmp_path):
    """Bug: put the folder in the link's place, on another disk maybe."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old/a").touch()
    link = tmp_path / "link"
    link.symlink_to("old")
    with atomic.writing(link, replaces=True) as partial:
        partial.mkdir()
        (partial / "b").touch()
    assert link.is_symlink()
    assert [path.name for path in link.iterdir()] == ["b"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "old"]


def test_of_two_writers_of_a_folder_the_first_wins(tmp_path):
    """Bug: raise the error of the rename."""
    path = tmp_path / "folder"
    with atomic.writing(path) as slower:
        slower.mkdir()
        (slower / "a").write_text("slower")
        with atomic.writing(path) as faster:
            faster.mkdir()
            (faster / "a").write_text("faster")
    assert (path / "a").read_text() == "faster"
    assert [*tmp_path.iterdir()] == [path]


def test_what_a_killed_process_left_is_removed_and_what_another_one_writes_stays(tmp_path):
    """Bug: remove a folder that another process has made and not locked yet."""
    path = tmp_path / "folder"
    for name in (".folder-killed_1", ".folder-made_new", ".folder-not_by_us"):
        (tmp_path / name).mkdir()
    for name in (".folder-killed_1", ".folder-not_by_us"):
        (tmp_path / name / "a").touch()
    with atomic.writing(path) as partial:
        partial.mkdir()
        atomic.remove_interrupted(path)
        assert partial.exists()
    left = {".folder-made_new", ".folder-not_by_us", "folder"}
    assert {each.name for each in tmp_path.iterdir()} == left


def test_a_folder_that_its_process_removes_meanwhile_is_passed_over(tmp_path, monkeypatch):
    """Bug: raise the error of opening it."""
    folder, open_file = tmp_path / ".folder-written1", os.open
    (folder / "inner").mkdir(parents=True)

    def too_late(name, *given, **where):
        if name == folder and folder.exists():
            folder.rename(tmp_path / "gone")
        return open_file(name, *given, **where)

    monkeypatch.setattr(os, "open", too_late)
    atomic.remove_interrupted(tmp_path / "folder")
    assert [each.name for each in tmp_path.iterdir()] == ["gone"]


def test_a_folder_that_cannot_be_made_is_named_with_the_advice(tmp_path):
    """Bug: make the folder above outside of the block that reports."""
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "new"
    with (
        pytest.raises(errors.InputError, match=f"cannot write {path}: .*; make room .*or go away"),
        atomic.writing(path, elsewhere="go away"),
    ):
        pass


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (ValueError("parquet: underlying IO error (os error 27)"), "File too large"),
        (ValueError("much [type.x='y' os_error_code='28'] else"), "No space left on device"),
        (shutil.Error([("a", "b", "[Errno 28] No space left: 'b'")]), "No space left on device"),
        (ValueError("first line\nsecond line"), "first line"),
        (ValueError(), "ValueError()"),
    ],
)
def test_the_reason_is_that_of_the_operating_system_or_the_first_line(error, says):
    assert errors.reason(error) == says


def test_a_path_may_hold_any_character(tmp_path):
    path = pathlib.Path(tmp_path, "a b[1]*.txt")
    atomic.write(path, "content")
    assert path.read_text() == "content"
