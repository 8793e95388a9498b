"""Run a module or a script as Python would, but no longer than the process that started it.

python -m experiments.jobs.worker experiments.run --flagfile=video.flags

It runs in the virtual environments of other libraries too, and imports nothing of this project.
Standard input is the lifeline: a pipe that closes when the starting process ends, even by kill -9.
A run that outlived it would go on to write into the folder that the next start resumes.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading


def main() -> None:
    """Run the module or the .py file that the arguments name, with the rest of the arguments."""
    threading.Thread(target=_exit_with_the_starter, daemon=True).start()
    sys.argv = sys.argv[1:]
    if sys.argv[0].endswith(".py"):
        sys.path.insert(0, os.path.dirname(sys.argv[0]))
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _exit_with_the_starter() -> None:
    while os.read(0, 1):  # blocks until the pipe closes, as nothing is ever written to it
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
