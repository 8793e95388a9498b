"""Print Tables 1 and 4 of a prepared log, the paper's column beside where it has one.

python -m experiments.describe --dataset=journey
"""

from __future__ import annotations

import json
import pathlib

from absl import flags

from hrnn_jax import atomic
from hrnn_jax.preprocess import prepared, statistics

from .common import cli, data_flags

FLAGS = flags.FLAGS
flags.DEFINE_string("json", None, "Also write the figures, and the prepared folder, to this file.")


def main() -> None:
    """Prepare the log that the flags name, and describe it."""
    folder = data_flags.prepare()
    meta = prepared.load_meta(folder)
    print(statistics.table(meta))
    if FLAGS.json:
        found = {**meta, "title": data_flags.title(), "prepared": str(folder)}
        atomic.write(pathlib.Path(FLAGS.json), json.dumps(found, indent=2) + "\n")
    for note in (*meta["notes"], f"prepared in {folder}"):
        print(note)


if __name__ == "__main__":
    cli.run(main, whole=False)
