"""What a script prints that runs in a process of its own, as it needs devices of its own."""

import functools
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def printed_by(module):
    """Return the JSON that a module prints, which runs once for all tests that ask for it."""
    done = _run(module)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


@functools.cache  # a failed run too: it would fail for each test again
def _run(module):
    argv = [sys.executable, "-m", module]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
