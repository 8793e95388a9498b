"""Print Tables 1 and 4 of a prepared log, the paper's column beside where it has one.

python -m experiments.describe --dataset=journey
"""

from __future__ import annotations

from experiments import cli, data
from hrnn_jax.preprocess import describe, prepared


def main() -> None:
    """Prepare the log that the flags name, and describe it."""
    folder = data.prepare()
    meta = prepared.load_meta(folder)
    print(describe.table(meta))
    for note in (*meta["notes"], f"prepared in {folder}"):
        print(note)


if __name__ == "__main__":
    cli.run(main, whole=False)
