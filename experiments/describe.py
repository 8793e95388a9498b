"""Print Tables 1 and 4 of a prepared log, next to the paper's column where it has one.

python -m experiments.describe --dataset=journey

The last lines name the prepared folder and the SHA-256 of its events, which is the same whatever
the ids are called. Logs with coarse times, such as dates, may have one hash with different events:
docs/how-to/public_logs.md says why, and has the hashes of public logs.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

from absl import flags

from hrnn_jax.files import atomic
from hrnn_jax.preprocess import prepared
from hrnn_jax.preprocess.datasets import PUBLIC_LOGS
from hrnn_jax.preprocess.event_hash import event_hash
from hrnn_jax.preprocess.statistics import PAPER, ROWS, cells

from .common import cli, data_flags
from .common.text import print_table

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "json",
    None,
    "Also write the figures, the number of test cases and the prepared folder to this file.",
)


def main() -> None:
    """Prepare the log that the flags name, and describe it."""
    folder = data_flags.prepare()
    meta = prepared.load_meta(folder)
    print_tables(meta)
    log = prepared.load(folder)
    sha256 = event_hash(log)
    if FLAGS.json:
        described = {
            **meta,
            "title": data_flags.title(),
            "prepared": str(folder),
            "events_sha256": sha256,
            "cases": len(log.cases),
        }
        atomic.write(pathlib.Path(FLAGS.json), json.dumps(described, indent=2) + "\n")
    known = f" ({PUBLIC_LOGS[sha256]})" if sha256 in PUBLIC_LOGS else ""
    for note in (
        *meta["notes"],
        f"prepared in {folder}",
        f"prepared events SHA-256 {sha256}{known}",
    ):
        print(note)


def print_tables(meta: dict[str, Any]) -> None:
    """Print Tables 1 and 4 of a prepared folder, next to the paper's numbers of its shape."""
    shape, ours = meta["shape"], cells(meta)
    columns = {f"{shape or meta['name']} ({meta['data']})": ours}
    if shape in PAPER:
        columns[f"paper's {shape.upper()}"] = PAPER[shape]
    rows = [
        (label, *(column.get(key, "") for column in columns.values()))
        for key, label in ROWS.items()
    ]
    print_table(["", *columns], rows)


if __name__ == "__main__":
    cli.run(main, whole=False)
