"""Print Tables 1 and 4 of a prepared log, next to the paper's column where it has one.

python -m experiments.describe --dataset=journey
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

import rich
from absl import flags
from rich.table import Table

from hrnn_jax import atomic
from hrnn_jax.preprocess import prepared
from hrnn_jax.preprocess.statistics import PAPER, ROWS, cells

from .common import cli, data_flags

FLAGS = flags.FLAGS
flags.DEFINE_string("json", None, "Also write the figures, and the prepared folder, to this file.")


def main() -> None:
    """Prepare the log that the flags name, and describe it."""
    folder = data_flags.prepare()
    meta = prepared.load_meta(folder)
    rich.print(tables(meta))
    if FLAGS.json:
        described = {**meta, "title": data_flags.title(), "prepared": str(folder)}
        atomic.write(pathlib.Path(FLAGS.json), json.dumps(described, indent=2) + "\n")
    for note in (*meta["notes"], f"prepared in {folder}"):
        print(note)


def tables(meta: dict[str, Any]) -> Table:
    """Lay out Tables 1 and 4 of a prepared folder, next to the paper's numbers of its shape."""
    shape, ours = meta["shape"], cells(meta)
    paper = PAPER.get(shape, {})
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column(f"{shape or meta['name']} ({meta['data']})", justify="right")
    if paper:
        table.add_column(f"paper's {shape.upper()}", justify="right")
    for key, label in ROWS.items():
        table.add_row(label, ours[key], *([paper.get(key, "")] if paper else []))
    return table


if __name__ == "__main__":
    cli.run(main, whole=False)
