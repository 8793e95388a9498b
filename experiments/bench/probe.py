"""Run a module as its command line would, and note what it took, for the benchmark.

python -m experiments.probe RECORD UNTIL MODULE [FLAGS]

RECORD is the JSON file for the notes; UNTIL is `end`, or `chunk`: then all ends once a first chunk
of training steps is done. The peak of resident memory is the kernel's VmHWM: getrusage's would
count the memory of the process that started this one, which a fork shares.
"""

from __future__ import annotations

import json
import os
import pathlib
import runpy
import sys
import threading
import time
from typing import Any


def main() -> None:
    record, until = pathlib.Path(sys.argv[1]), sys.argv[2]
    sys.argv = sys.argv[3:]
    if until == "chunk":
        threading.Thread(target=_stop_after_a_chunk, args=(record,), daemon=True).start()
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    finally:
        if until == "end":
            _note(record)


def peak_bytes() -> int | None:
    """Return the most memory that was resident in this process; None where none can tell."""
    status = pathlib.Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)


def _note(record: pathlib.Path) -> None:
    record.write_text(json.dumps({"at": time.time(), "peak_bytes": peak_bytes()}))


def _stop_after_a_chunk(record: pathlib.Path) -> None:
    """Wait until training is imported, which this must not hasten, and listen to it."""
    while not hasattr(sys.modules.get("hrnn_jax.train"), "run_epoch"):
        time.sleep(0.002)
    train: Any = sys.modules["hrnn_jax.train"]
    run_epoch = train.run_epoch

    def told(events: int, loss: float) -> None:
        _note(record)
        os._exit(0)

    train.run_epoch = lambda *args, **settings: run_epoch(*args, **settings | {"on_chunk": told})


if __name__ == "__main__":
    main()
