"""The commit that a run notes: that of its code, never that of the repository around it."""

import pathlib
import shutil
import subprocess
import sys

import pytest

from hrnn_jax.files import provenance

ROOT = pathlib.Path(__file__).parents[3]


def git(folder, *argv):
    who = ("-c", "user.name=n", "-c", "user.email=e@example.com")
    command = ["git", "-C", str(folder), *who, *argv]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """Make a git repository with one commit of a file."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "thesis.txt").write_text("x")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=x")
    return folder


def install(folder):
    """Copy the module as the package has it; returns the package's folder."""
    tree = folder / "hrnn_jax" / "files"
    tree.mkdir(parents=True)
    shutil.copy(provenance.__file__, tree)
    return tree


def commit_of(tree):
    """Ask the copy, in a process of its own that has the library; nothing may be printed to it."""
    code = "import provenance as p; print(p.commit())"
    path = f"import sys; sys.path[:0] = [{str(tree)!r}, {str(ROOT)!r}]; {code}"
    done = subprocess.run([sys.executable, "-c", path], capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.parametrize("place", [".", "env/lib/site-packages"])
def test_an_installed_package_does_not_take_the_commit_of_the_repository_around_it(
    repository, place
):
    tree = install(repository / place)
    assert commit_of(tree) == "unknown"
    (tree.parent / provenance.BUILT_FROM).write_text("abc1234\n")
    assert commit_of(tree) == "abc1234"


def test_sources_inside_another_repository_do_not_take_its_commit(repository):
    assert commit_of(install(repository / "third_party")) == "unknown"


def test_a_checkout_has_its_commit_and_a_mark_where_it_was_changed(repository):
    tree = install(repository)
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message=y")
    assert commit_of(tree) == git(repository, "rev-parse", "--short", "HEAD")
    (repository / "thesis.txt").write_text("changed")
    assert commit_of(tree) == git(repository, "rev-parse", "--short", "HEAD") + "+"


def test_outside_a_repository_git_says_nothing(tmp_path):
    assert commit_of(install(tmp_path)) == "unknown"


def test_the_variables_of_another_repository_do_not_mislead(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))  # as inside a git hook
    assert commit_of(install(tmp_path / "elsewhere")) == "unknown"
