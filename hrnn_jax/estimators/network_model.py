"""What all networks have in common: epochs, checkpoints, lists, and the live recommender."""

from __future__ import annotations

import copy
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
import polars as pl

from hrnn_jax import network
from hrnn_jax.arguments import whole_number
from hrnn_jax.config import (
    EvaluationConfig,
    ModelConfig,
    RecommenderConfig,
    TrainConfig,
    settings,
)
from hrnn_jax.errors import InputError
from hrnn_jax.estimators import live_users, run_files
from hrnn_jax.estimators.base import Model, check_test, check_train, with_cases
from hrnn_jax.estimators.callbacks.print_and_csv import Print
from hrnn_jax.estimators.callbacks.trained_epoch import Callback, Epoch, close, training_figures
from hrnn_jax.estimators.logs import Part
from hrnn_jax.estimators.trained import Trained
from hrnn_jax.files import checkpoint
from hrnn_jax.live.batched_model import LIST_LENGTHS
from hrnn_jax.live.recommender import Recommender
from hrnn_jax.live.store.state_file import IN_MEMORY
from hrnn_jax.ranking import evaluation, metrics
from hrnn_jax.ranking.metrics import Ranking
from hrnn_jax.repeat_explore import mixture as mixtures
from hrnn_jax.repeat_explore import neighbours
from hrnn_jax.training import train

Self = TypeVar("Self", bound="NetworkModel")
_LIVE = RecommenderConfig()


class NetworkModel(Model):
    """A network: trained by epochs, which callbacks may follow; it can recommend to live users."""

    configs = (ModelConfig, TrainConfig)
    _trained: Trained | None = None

    def _check_settings(self) -> None:
        self._model_config(n_items=1)
        self._train_config()

    def _model_config(self, n_items: int) -> ModelConfig:
        return ModelConfig(n_items=n_items, variant=self.key, **self._of(ModelConfig))

    def _train_config(self) -> TrainConfig:
        return TrainConfig(**self._of(TrainConfig))

    def _of(self, config: type) -> dict[str, Any]:
        known = settings(config)
        return {name: value for name, value in self._settings.items() if name in known}

    def __copy__(self: Self) -> Self:
        """Copy all: an epoch of a copy that shared the weights would train the original too."""
        return copy.deepcopy(self)

    @property
    def trained_(self) -> Trained:
        """The network, its state and its history."""
        if self._trained is None:
            raise InputError(f"{self.name} is not fitted: call `fit` with a training part")
        return self._trained

    @property
    def history_(self) -> pl.DataFrame:
        """A row for each epoch: seed, epoch, loss, events, seconds, and metrics by name."""
        return pl.DataFrame(self.trained_.history)

    @property
    def epochs_(self) -> int:
        """The epochs trained on the present log."""
        return self.trained_.epochs

    @property
    def params_(self) -> Any:
        """The weights, see `hrnn_jax.model.Params`."""
        return self.trained_.state.params

    def fit(
        self: Self,
        train: Part,
        *,
        epochs: int = 10,
        callbacks: Sequence[Callback] = (Print(),),
        seed: int = 0,
        validation: Part | None = None,
    ) -> Self:
        """Train from drawn weights, as `experiments.run` does.

        An error before the first epoch, or in an epoch that diverges or is interrupted, leaves the
        model not fitted, as the weights are updated in place. One after an epoch, of a callback for
        example, leaves it with the epochs trained so far.

        Args:
            train: The training part of a log.
            epochs: Passes over the training events; 0 keeps the drawn weights. With
                `held_out_patience` they may be fewer.
            callbacks: Called after each epoch with an `Epoch`, see `hrnn_jax.callbacks`. By default
                each prints a line; [] is silent.
            seed: Of the weights and of all random draws, below 2**31.
            validation: The test part of the same split, to measure after each epoch, as in
                {"recall@5": ...}; it changes nothing of the training.

        Returns:
            The model.

        Raises:
            InputError: The model is fitted already, a part is not one of this log, `epochs`,
                `seed` or `callbacks` cannot be, or `epochs` are more than `schedule_epochs`.
            DivergedError: The loss is not a number any more: lower `learning_rate`.
        """
        self._check_not_fitted()
        part = check_train(train)
        epochs = self._check_training(part, epochs, callbacks, validation)
        seed = whole_number("`seed`", seed, least=0, most=2**31 - 1)
        made = self._network(part, self._train_config().for_epochs(epochs))
        trained = Trained(made, made.init_state(seed), seed)
        trained.hold_out(None)
        return self._train_epochs(part, trained, epochs, callbacks, validation)

    def partial_fit(
        self: Self,
        train: Part | None = None,
        *,
        epochs: int = 1,
        callbacks: Sequence[Callback] = (Print(),),
        validation: Part | None = None,
    ) -> Self:
        """Train further: on the same log, or on a new one with the items and weights of before.

        On the same log, the epochs go on where `fit` ended, with the same results as if it had not
        ended there. On a new log the items keep their weights and their numbers, new ones are
        added, and epochs count from 1 again, as `experiments.run` goes on from another run; a
        `schedule` of the learning rate begins anew, over the epochs of this call.

        An error leaves the model as `fit` says: before the first epoch as it was, on its log.

        Args:
            train: The training part of the new log; by default the one of before.
            epochs: As of `fit`.
            callbacks: As of `fit`.
            validation: As of `fit`.

        Returns:
            The model.

        Raises:
            InputError: The model is not fitted and there is no `train`, `train` is of a loaded
                model with other items, the learning rate has fallen to 0 by its schedule, or the
                model has `places`, continued another one, and was loaded; or see `fit`.
            DivergedError: See `fit`.
        """
        if self._train is None:
            return self.fit(
                check_train(train), epochs=epochs, callbacks=callbacks, validation=validation
            )
        part, is_new = self.train_, False
        if train is not None and check_train(train).folder.name != part.folder.name:
            part, is_new = train.continuing(self.items_), True
            if part.items[: len(self.items_)] != self.items_:
                raise InputError(
                    f"`train`={train!r} is of a loaded model, whose items keep the numbers that "
                    "they have there: read its log with `hrnn_jax.read`, and give a part of that"
                )
        epochs = self._check_training(part, epochs, callbacks, validation)
        if is_new:
            trained = self._extended(part, epochs)
        else:
            trained = self.trained_
            trained.check_further(epochs)
        return self._train_epochs(part, trained, epochs, callbacks, validation)

    def _extended(self, part: Part, epochs: int) -> Trained:
        """Return what goes on on a new log: items of before keep their rows, new ones are drawn."""
        before = self.trained_
        # Not the schedule of the log of before, which a loaded model has as a setting.
        config = dataclasses.replace(self._train_config(), schedule_epochs=0).for_epochs(epochs)
        made = self._network(part, config)
        state = train.extend_state(before.state, made.init_state(before.seed))
        lineage = (checkpoint.fingerprint(before.state.params), *before.lineage)
        trained = Trained(made, state, before.seed, lineage=lineage)
        trained.hold_out(state)
        return trained

    def _network(self, part: Part, config: TrainConfig) -> network.Network:
        events = part.events
        model_config = self._model_config(events.n_items)
        return network.make_network(events, model_config, config, EvaluationConfig())

    def _check_training(self, part: Part, epochs: Any, callbacks: Any, validation: Any) -> int:
        """Return the number of epochs. Raises InputError where an argument cannot be."""
        if validation is not None:
            check_test(self.name, part, validation)
        if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
            raise InputError(
                f"`callbacks`={callbacks!r}: give a list of functions, as in [callbacks.Print()]"
            )
        return whole_number("`epochs`", epochs, least=0, most=2**31 - 1)

    def _train_epochs(
        self: Self,
        part: Part,
        trained: Trained,
        epochs: int,
        callbacks: Sequence[Callback],
        validation: Part | None,
    ) -> Self:
        """Train; each complete epoch makes `part` and `trained` those of the model."""
        begin = trained.epochs
        try:
            if epochs:
                trained.network.check_trainable()
            epochs = trained.choose_epochs(epochs)
            for number in range(begin + 1, begin + epochs + 1):
                self._train = self._trained = None  # the epoch is given the memory of the weights
                done = trained.network.devices.train_epoch(
                    trained.network, trained.state, [trained.seed], number - 1
                )
                trained.state, trained.epochs = done.state, number
                self._train, self._trained = part, trained
                epoch = Epoch(
                    number,
                    begin + epochs,
                    float(done.losses[0]),
                    {},
                    done.events,
                    done.seconds,
                    trained.seed,
                    done.rate,
                )
                trained.history.append(epoch.entry())
                if validation is not None:
                    epoch = dataclasses.replace(epoch, metrics=self._measured())
                    trained.history[-1] = epoch.entry()
                said = [callback(epoch) for callback in callbacks]
                if any(isinstance(each, (bool, np.bool_)) and each for each in said):
                    break
            trained.present_mixture()  # not by the first list or rank
            self._train, self._trained = part, trained
        finally:
            close(callbacks)
        return self

    def _measured(self) -> dict[str, float]:
        config = EvaluationConfig()
        return metrics.summarise(self.ranking(config).rank, config.cutoffs)

    def ranking(self, config: EvaluationConfig) -> Ranking:
        """Rank the test cases of the log that the model is fitted on.

        Args:
            config: Cutoffs, ties and the number of candidates.
        """
        ranked = dataclasses.replace(self.trained_.network, evaluation_config=config)
        return ranked.devices.rank(ranked, self.params_, self.trained_.present_mixture())

    def recipe_configs(self) -> list[Any]:
        """Return the configs of the network and of its training."""
        setup = self.trained_.network.setup
        steps = setup.config.schedule_epochs
        return [
            setup.model_config,
            dataclasses.replace(self._train_config(), schedule_epochs=steps),
        ]

    def continued_from(self) -> dict[str, Any]:
        """Return what recipe.json says of the weights that these continue."""
        trained = self.trained_
        if not trained.lineage:
            return {}
        weights = {str(trained.seed): list(trained.lineage)}
        return {"continued_from": {"run": "a fitted model", "weights": weights}}

    def restore(self, part: Part, folder: pathlib.Path, seed: int | None) -> None:
        """Take weights, optimizer state and history from a run folder.

        Args:
            part: The training part of its log.
            folder: Of the run.
            seed: One of its seeds; by default the first that has a checkpoint.

        Raises:
            InputError: The folder is damaged, or the run is of another model.
        """
        about, _ = checkpoint.load_run(folder, seed=seed)
        made = self._network(part, self._train_config())
        like: Any = jax.eval_shape(lambda: made.init_state(0))
        of_seed = checkpoint.folder(folder, about.seed)
        state = checkpoint.restore(of_seed, like, epochs=about.epochs)
        history = [
            entry
            for entry in run_files.read_history(folder)
            if entry["seed"] == about.seed and entry["epoch"] <= about.epochs
        ]
        trained = Trained(made, state, about.seed, about.epochs, about.lineage[1:], history=history)
        if not trained.lineage:  # otherwise the weights that it started from are not in the folder
            trained.hold_out(None)
        if about.mixture is not None:
            trained.mixture, trained.mixture_epochs = about.mixture.weights, about.epochs
        self._train, self._trained = part, trained

    def about_run(self, folder: pathlib.Path) -> checkpoint.TrainedRun:
        """Describe the network without its weights, as live recommendation takes it.

        Args:
            folder: Of its run; messages name it.
        """
        trained, part = self.trained_, self.train_
        recipe = part.meta["recipe"]
        return checkpoint.TrainedRun(
            folder=folder,
            seed=trained.seed,
            epochs=self.epochs_,
            config=trained.network.setup.model_config,
            items=part.items,
            gap_seconds=60 * recipe["session_gap_minutes"],
            drop_repeats=recipe["drop_repeats"],
            lineage=(checkpoint.fingerprint(trained.state.params), *trained.lineage),
            mixture=trained.fitted,
            any_year=checkpoint.takes_any_year(part.meta),
        )

    def live(
        self,
        states: str | pathlib.Path = IN_MEMORY,
        *,
        history: Any = True,
        config: RecommenderConfig = _LIVE,
    ) -> Recommender:
        """Recommend to live users: their states follow their events.

        At first each user has the state after the training events, and so the list that
        `recommend` gives.

        Args:
            states: The file of the states, made if it does not exist; in memory by default. Or a
                database, as postgresql://USER@HOST:PORT/DATABASE. A file that exists, or a database
                with states, keeps its states, and no history is imported.
            history: The events that users have a state of at first: True for those of `train_`,
                None or False for none; or a frame, a log or a part of one.
            config: Settings of the states.

        Returns:
            The live recommender, see `hrnn_jax.Recommender`. It holds the present weights.

        Raises:
            InputError: The model is not fitted, the states were made by other weights, or `history`
                is something else.
        """
        about = self.about_run(pathlib.Path("this model"))
        return live_users.recommender((about, self.params_), self.train_, states, history, config)

    def _lists(
        self, users: np.ndarray, k: int, left_out: Mapping[int, np.ndarray]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        known, events = np.unique(users[users >= 0]), self.train_.events.train
        longest = k + max(map(len, left_out.values()), default=0)
        n_first = min([n for n in LIST_LENGTHS if n >= longest] + [events.n_items])
        trained = self.trained_
        lists: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        if len(known):
            best = evaluation.best(
                self.params_,
                with_cases(events, known),
                n_first,
                model_config=trained.network.setup.model_config,
                mixture=trained.fitted,
            )
            for user, items, scores in zip(known.tolist(), *best, strict=True):
                can_be = ~np.isin(items, list(left_out.get(user, ()))) & (scores > -np.inf)
                kept = np.flatnonzero(can_be)[:k]
                lists[user] = items[kept], scores[kept]
        if (users < 0).any():
            lists[-1] = self._without_events(k)
        return [lists[user] for user in users.tolist()]

    def _without_events(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return what is recommended before any event of a user."""
        index = {str(item): n for n, item in enumerate(self.items_)}
        with self.live(history=None) as recommender:
            found = recommender.recommend(user="nobody", k=k)
        items = [index[str(item)] for item, _ in found]
        return np.array(items, np.int64), np.array([score for _, score in found])

    def write_weights(self, folder: pathlib.Path) -> dict[str, Any]:
        """Write the checkpoint, the history, the items and the neighbours into a run folder.

        Args:
            folder: Of the run.
        """
        trained = self.trained_
        run_files.write_data(folder, self.train_.folder)
        run_files.write_history(folder, trained.history)
        mixture = trained.present_mixture()
        if trained.network.table is not None and mixture is not None:
            neighbours.save(folder / neighbours.FILE, trained.network.table)
            path = mixtures.file(folder, trained.seed)
            mixtures.save(path, mixture, epochs=self.epochs_)
        of_seed = checkpoint.folder(folder, trained.seed)
        checkpoint.save(of_seed, trained.state, epochs=self.epochs_)
        figures = training_figures(trained.history)
        return {"seed": trained.seed, "epochs": self.epochs_, **figures}
