"""What setup.cfg cannot say: a built package holds the commit that it was built from."""

import pathlib
import sys

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from hrnn_jax.files import provenance  # noqa: E402  found by the line above


def write_commit(tree: pathlib.Path) -> None:
    """Write the commit of this code, which an archive of the sources has in a file already."""
    if (found := provenance.commit()) != "unknown":
        (tree / provenance.BUILT_FROM).write_text(f"{found}\n")


class BuildPy(build_py):
    """Copies the packages; an editable installation reads the checkout instead."""

    def run(self) -> None:
        """Copy, and note the commit."""
        super().run()
        if not self.editable_mode:
            write_commit(pathlib.Path(self.build_lib, "hrnn_jax"))


class Sdist(sdist):
    """Makes the archive of the sources."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """Copy the files, and note the commit."""
        super().make_release_tree(base_dir, files)
        write_commit(pathlib.Path(base_dir, "hrnn_jax"))


setup(cmdclass={"build_py": BuildPy, "sdist": Sdist})
