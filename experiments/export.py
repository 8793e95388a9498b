"""Export a run's weights for numpy alone (hrnn_jax/live/numpy_scorer.py says what the file holds).

python -m experiments.export --run=out/run --weights=weights.npz
"""

from __future__ import annotations

from absl import flags

from hrnn_jax.config import RecommenderConfig, meanings

from .common import cli, interrupt, run_flags

FLAGS = flags.FLAGS
flags.DEFINE_string("weights", "weights.npz", "The file to write.")
flags.DEFINE_bool(
    "exclude_session_items", None, meanings(RecommenderConfig)["exclude_session_items"]
)


def main() -> None:
    """Export the weights of --run."""
    folder = run_flags.folder()

    with interrupt.importing():  # here: the flags are checked before jax is loaded
        from hrnn_jax.files.checkpoint import load_run
        from hrnn_jax.live import export

    about, params = load_run(folder, seed=FLAGS.seed)
    export.write(FLAGS.weights, about, params, exclude_session_items=FLAGS.exclude_session_items)
    print(
        f"{FLAGS.weights}: seed {about.seed} after {about.epochs} epochs, "
        f"{about.config.n_items:,} items"
    )


if __name__ == "__main__":
    cli.run(main)
