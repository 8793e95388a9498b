"""The mixture of each seed of a run: for how many epochs the network is best, and the weights.

Both are learnt with a second network, which does not see the last sessions (held_out.py). A run
keeps what it has learnt in its folder, so that a resumed one does not learn it again.
"""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

from absl import flags

from hrnn_jax import errors
from hrnn_jax.files import atomic
from hrnn_jax.repeat_explore import mixture as mixtures
from hrnn_jax.repeat_explore import neighbours
from hrnn_jax.repeat_explore.mixture import Mixture
from hrnn_jax.training.held_out import HeldOut, best_epoch

from ..common import model_flags, run_folder
from ..common.text import duration
from . import continue_run, distributed, epochs

FLAGS = flags.FLAGS
# Beside a seed's mixture: the MRR by epoch from which the number of epochs was chosen.
HELD_OUT = "seed_{seed}_held_out.json"


class Mixtures:
    """The mixtures of a run's seeds; a network without `places` has none."""

    def __init__(
        self, folder: pathlib.Path, network: epochs.Network, parents: continue_run.Parents
    ) -> None:
        """Read and learn nothing yet.

        Args:
            folder: of the run.
            network: of all seeds.
            parents: of the run that is continued, by seed; empty for none.
        """
        self._folder, self._network, self._parents = folder, network, parents
        self._held_out: dict[int, HeldOut] = {}  # by seed

    def learn(self, seed: int, trained: int) -> Mixture | None:
        """Return the mixture of a seed after some epochs, which is learnt unless the folder has it.

        Returns:
            The weights; None for a network without `places`.
        """
        if self._network.table is None:
            return None
        path = mixtures.file(self._folder, seed)
        kept = _read(path, trained) if distributed.is_first() else None
        if distributed.of_first(kept is not None):
            return kept or mixtures.load(path, epochs=trained)
        held_out = self._without_last_sessions(seed)
        started = time.perf_counter()
        mixture = held_out.mixture(trained, _train_held_out(seed, trained))
        if distributed.is_first():
            mixtures.save(path, mixture, epochs=trained)
        distributed.wait()
        n_cases = len(held_out.network.log.cases)
        print(
            f"seed {seed} learnt repeat and explore from {n_cases:,} held-out events in "
            f"{duration(time.perf_counter() - started)}",
            flush=True,
        )
        return mixture

    def choose_epochs(self, seed: int) -> int:
        """Return for how many epochs to train: --epochs, or fewer by --held_out_patience."""
        patience = self._network.setup.config.held_out_patience
        mixture = mixtures.file(self._folder, seed)
        path = mixture.with_name(HELD_OUT.format(seed=seed))
        scores = read_scores(path) if distributed.is_first() else []
        chosen = best_epoch(scores, most=FLAGS.epochs, patience=patience)
        if (chosen := distributed.of_first(-1 if chosen is None else chosen)) >= 0:
            return chosen
        # Anew from the first epoch if --epochs has grown: the held-out network has no checkpoint.
        held_out = self._without_last_sessions(seed)
        found = held_out.choose_epochs(FLAGS.epochs, _train_held_out(seed, FLAGS.epochs))
        if found.mixture is None:
            print(
                f"seed {seed} is trained for all {found.epochs} epochs: no user has a session to "
                "leave out, by which --held_out_patience chooses fewer",
                flush=True,
            )
            return found.epochs
        if distributed.is_first():
            mixtures.save(mixture, found.mixture, epochs=found.epochs)
            atomic.write(path, json.dumps({"mrr": found.scores}) + "\n")
        distributed.wait()
        shown = ", ".join(f"{score:.4f}" for score in found.scores)
        print(
            f"seed {seed} is trained for {found.epochs} of {FLAGS.epochs} epochs: without the last "
            f"sessions the MRR of their {len(held_out.network.log.cases):,} events was {shown}",
            flush=True,
        )
        return found.epochs

    def _without_last_sessions(self, seed: int) -> HeldOut:
        if seed not in self._held_out:
            start = continue_run.extended_state(self._parents, seed, self._network.setup)
            self._held_out[seed] = HeldOut(self._network, start, seed)
        return self._held_out[seed]


def _train_held_out(seed: int, last: int) -> Callable[..., epochs.EpochResult]:
    def train_epoch(*given: Any) -> epochs.EpochResult:
        title = f"seed {seed} without the last sessions, epoch {given[-1] + 1}/{last}"
        return epochs.train_epoch(*given, title=title)

    return train_epoch


def _read(path: pathlib.Path, trained: int) -> Mixture | None:
    try:
        return mixtures.load(path, epochs=trained)
    except errors.InputError:  # missing, damaged, or of other epochs
        return None


def are_missing(folder: pathlib.Path) -> bool:
    """Tell whether a file of a finished run's mixtures is missing or damaged."""
    if not model_flags.model_config(n_items=1).places:
        return False
    trained = {entry["seed"]: entry["epoch"] for entry in run_folder.read_history(folder)}
    try:
        neighbours.load(folder / neighbours.FILE)
    except errors.InputError:
        return True
    return any(
        _read(mixtures.file(folder, seed), trained.get(seed, 0)) is None
        for seed in model_flags.seeds()
    )


def read_scores(path: pathlib.Path) -> list[float]:
    """Read the MRR by epoch of a seed's file `HELD_OUT`; none if it is missing or damaged."""
    try:
        return [float(score) for score in json.loads(path.read_text())["mrr"]]
    except (OSError, ValueError, TypeError, KeyError):
        return []  # the file is written anew
