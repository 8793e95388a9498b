"""What a script prints that runs in a process of its own, as it needs devices of its own."""

import functools
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


@functools.cache
def printed_by(module):
    """Run a module once; return the JSON that it prints."""
    done = subprocess.run([sys.executable, "-m", module], cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)
