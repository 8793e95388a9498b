"""The models that count: the paper's PPOP and Item-KNN, Markov, SR, session-kNN, STAN, EASE, ..."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from hrnn_jax.baselines import by_name
from hrnn_jax.baselines.sparse_ranking import largest, row_chunks
from hrnn_jax.config import (
    MODELS,
    CountsConfig,
    EaseConfig,
    EvaluationConfig,
    ItemKnnConfig,
    PopularConfig,
    SessionKnnConfig,
    StanConfig,
)
from hrnn_jax.errors import InputError
from hrnn_jax.estimators.base import Model, check_train, with_cases
from hrnn_jax.estimators.logs import Part
from hrnn_jax.ranking.metrics import Ranking

Self = TypeVar("Self", bound="CountingModel")


class CountingModel(Model):
    """A model without training: fitting it only remembers the training events, ranking counts."""

    def _check_settings(self) -> None:
        if self.key not in MODELS:
            raise InputError(
                f"no model is registered as {self.key}: call by_name.register, or import the file "
                "that does"
            )
        self._config()

    def _config(self) -> by_name.Settings:
        """Return the model's own config, None if it has none."""
        if self.key not in by_name.CONFIGS:
            return None
        config: Any = by_name.CONFIGS[self.key]
        return config(**self._settings, **by_name.FIXED.get(self.key, {}))

    def recipe_configs(self) -> list[Any]:
        """Return the model's own config, if it has one."""
        config = self._config()
        return [] if config is None else [config]

    def fit(self: Self, train: Part) -> Self:
        """Remember the training events.

        Args:
            train: The training part of a log.

        Returns:
            The model.

        Raises:
            InputError: The model is fitted already, or this is no training part.
        """
        self._check_not_fitted()
        self._train = check_train(train)
        return self

    def partial_fit(self: Self, train: Part) -> Self:
        """Count the events of another log instead, one that has the earlier events too.

        Args:
            train: The training part of that log.

        Returns:
            The model.

        Raises:
            InputError: This is no training part.
        """
        self._train = check_train(train)
        return self

    def ranking(self, config: EvaluationConfig) -> Ranking:
        """Rank the test cases of the log that the model is fitted on.

        Args:
            config: Cutoffs, ties and the number of candidates.
        """
        return by_name.rank(self.key, self.train_.events, self._config(), config)

    def write_weights(self, folder: pathlib.Path) -> dict[str, Any]:
        """Write nothing: counting is done when the model ranks.

        Args:
            folder: Of the run.
        """
        return {"seed": 0, "epochs": 0, "train_seconds": None, "train_events_per_second": None}

    def live(self, *_: Any, **__: Any) -> Any:
        """Raise InputError: a counting model keeps no state of a user.

        Raises:
            InputError: Always.
        """
        raise InputError(
            f"{self.name} counts, it has no state of a live user: take a network, as in "
            "hrnn_jax.HRNNPlus"
        )

    def _lists(
        self, users: np.ndarray, k: int, left_out: Mapping[int, np.ndarray]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        known = np.unique(users[users >= 0])
        events = self.train_.events.train
        score, costs = by_name.scorer(self.key, with_cases(events, known), self._config())
        lists: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for chunk in row_chunks(costs) if len(known) else ():
            scores = score(chunk)
            for n, user in enumerate(known[chunk].tolist()):
                row = slice(scores.indptr[n], scores.indptr[n + 1])
                is_out = np.isin(scores.indices[row], list(left_out.get(user, ())))
                scores.data[row][is_out] = 0
            scores.eliminate_zeros()
            best = largest(scores, k)
            for n, user in enumerate(known[chunk].tolist()):
                kept = slice(best.indptr[n], best.indptr[n + 1])
                lists[user] = best.indices[kept], best.data[kept]
        nothing = np.zeros(0, np.int64), np.zeros(0)
        return [lists.get(user, nothing) for user in users.tolist()]


class PPOP(CountingModel):
    """Personal Pop (Section 4.2): the items that the user had most often.

    See `counting.ppop_scorer`.
    """

    models = ("ppop",)


class ItemKNN(CountingModel):
    """Item-KNN (Section 4.2): items like the last one, see `counting.item_knn_scorer`.

    Settings: the fields of `ItemKnnConfig`.
    """

    configs, models = (ItemKnnConfig,), ("item_knn",)


class Markov(CountingModel):
    """A Markov chain of first order: what came right after the last item."""

    models = ("markov",)


class SR(CountingModel):
    """Sequential rules: what came soon after the last item, see `counting.rules_scorer`."""

    models = ("sr",)


class VSKNN(CountingModel):
    """V-SKNN: the items of sessions like the current one, see `session_knn`.

    Settings: `neighbours` and `sample_size` of `SessionKnnConfig`.
    """

    configs, models = (SessionKnnConfig,), ("vsknn",)


class VSKNNBR(CountingModel):
    """V-SKNN_BR: V-SKNN that prefers the user's own sessions and adds scores to their items.

    Settings: the fields of `SessionKnnConfig`.
    """

    configs, models = (SessionKnnConfig,), ("vsknn_br",)


class STAN(CountingModel):
    """STAN: V-SKNN with decays by place and time, see `stan`.

    Settings: `neighbours`, `sample_size`, `lambda_spw`, `lambda_snh` and `lambda_inh` of
    `StanConfig`.
    """

    configs, models = (StanConfig,), ("stan",)


class VSTAN(CountingModel):
    """VSTAN: STAN that prefers neighbours with the latest items, and rare items, see `stan`.

    Settings: those of STAN, `lambda_ipw` and `lambda_idf`.
    """

    configs, models = (StanConfig,), ("vstan",)


class UVSTAN(CountingModel):
    """U-VSTAN: VSTAN that knows the user's own sessions, see `stan`.

    Settings: the fields of `StanConfig`.
    """

    configs, models = (StanConfig,), ("u_vstan",)


class EASE(CountingModel):
    """EASE: a linear model of the items that a user has, see `ease`.

    Settings: the fields of `EaseConfig`. The weights are computed whenever the model ranks or
    recommends.
    """

    configs, models = (EaseConfig,), ("ease",)


class Popular(CountingModel):
    """The most popular items of the last hours, see `popular`.

    Settings: the field of `PopularConfig`. `recommend` lists what was popular before the user's
    last event.
    """

    configs, models = (PopularConfig,), ("popular",)


class Counts(CountingModel):
    """A mixture of the user's fading past, a Markov chain, rules and similar items, see `counts`.

    Settings: the fields of `CountsConfig`.
    """

    configs, models = (CountsConfig,), ("counts",)
