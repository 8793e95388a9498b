"""The package as it is installed: its names, its parts and its versions."""

import configparser
import pathlib
import re
import subprocess
import sys
import zipfile

import pytest

import hrnn_jax

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def setup():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


@pytest.mark.parametrize("name", hrnn_jax.__all__)
def test_every_public_name_is_there(name):
    assert getattr(hrnn_jax, name) is not None
    assert name in dir(hrnn_jax)


def test_the_stub_has_the_public_names():
    stub = (ROOT / "hrnn_jax/__init__.pyi").read_text()
    imported = re.findall(r"^from [\w.]+ import \w+ as (\w+)$", stub, re.MULTILINE)
    assert {*imported, "__version__"} == set(hrnn_jax.__all__)


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = hrnn_jax.no_such_name  # pyright: ignore[reportAttributeAccessIssue]


def test_importing_the_package_loads_neither_jax_nor_polars():
    code = "import sys, hrnn_jax; dir(hrnn_jax); print(*{'jax', 'polars'} & sys.modules.keys())"
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, text=True, cwd=ROOT).split() == []


def test_the_listed_packages_are_the_folders(setup):
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for tree in ("hrnn_jax", "experiments")
        for path in (ROOT / tree).rglob("__init__.py")
    }
    listed = set(setup["options"]["packages"].split())
    assert {name.replace("hrnn_jax_experiments", "experiments") for name in listed} == folders


def test_the_changelog_and_the_citation_have_the_version():
    assert f"## {hrnn_jax.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {hrnn_jax.__version__}" in (ROOT / "CITATION.cff").read_text()


def test_a_wheel_installs_no_top_level_package_called_experiments(tmp_path):
    """Built from a copy: setuptools writes beside the sources."""
    source = tmp_path / "source"
    copied = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files"], check=True, capture_output=True, text=True
    ).stdout.split("\n")
    for name in copied:
        if name.startswith(("hrnn_jax/", "experiments/")) or "/" not in name:
            path = source / name
            if name and (ROOT / name).is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes((ROOT / name).read_bytes())
    git = ["git", "-C", str(source), "-c", "user.name=n", "-c", "user.email=e@example.com"]
    for argv in (["init"], ["add", "."], ["commit", "--message=x"]):
        subprocess.run([*git, *argv], check=True, capture_output=True)
    head = subprocess.check_output([*git, "rev-parse", "--short", "HEAD"], text=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--disable-pip-version-check",
    ]
    subprocess.run([*pip, f"--wheel-dir={tmp_path}", str(source)], check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        entry_points = [name for name in names if name.endswith("entry_points.txt")]
        assert b"hrnn-jax = hrnn_jax_experiments.__main__:main" in file.read(entry_points[0])
        assert file.read("hrnn_jax/commit.txt").decode() == head
        file.extractall(tmp_path / "site")
    info = f"hrnn_jax-{hrnn_jax.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"hrnn_jax", "hrnn_jax_experiments", info}
    assert "hrnn_jax/py.typed" in names
    assert "hrnn_jax_experiments/flags/video.flags" in names
    assert "hrnn_jax_experiments/serving/page/index.html" in names
    for name in ("clock.py", "run_recbole.py", "recbole.txt"):
        assert f"hrnn_jax_experiments/bench/peers/scripts/{name}" in names
    # Away from the repository: the console command's main, and a command of the package.
    code = (
        "import sys; sys.argv[1:] = ['describe', '--help']; "
        "from hrnn_jax_experiments.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "--min_support" in done.stdout, done.stderr
