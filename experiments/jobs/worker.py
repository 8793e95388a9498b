"""Run a module as its command line would, for as long as the process that started it lives.

python -m experiments.worker experiments.run --flagfile=video.flags

Standard input is the lifeline: it ends with the starter, however that dies, kill -9 included. A
run that went on alone would write into the folder that the next start takes up.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading


def main() -> None:
    threading.Thread(target=_die_with_the_starter, daemon=True).start()
    sys.argv = sys.argv[1:]
    sys.path.insert(0, os.getcwd())
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _die_with_the_starter() -> None:
    while os.read(0, 1):  # nothing is ever written to it
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
