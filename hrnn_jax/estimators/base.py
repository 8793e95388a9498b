"""What all models have in common: settings, fitted state, ranks, and lists as frames."""

from __future__ import annotations

import abc
import difflib
import inspect
import pathlib
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
import polars as pl

from hrnn_jax.arguments import path_of, several_ids, whole_number
from hrnn_jax.config import EvaluationConfig, settings, unmet_need
from hrnn_jax.errors import InputError
from hrnn_jax.estimators import saving
from hrnn_jax.estimators.logs import Log, Part
from hrnn_jax.event_log import EventLog
from hrnn_jax.ids_and_times import Id, id_text
from hrnn_jax.preprocess import frames
from hrnn_jax.presets import NAMES
from hrnn_jax.ranking.metrics import Ranking

Self = TypeVar("Self", bound="Model")
USER, ITEM, SCORE, RANK = "user", "item", "score", "rank"


class Model(abc.ABC):
    """A recommendation model: fitted on the training part of a log, asked for lists and ranks.

    Its settings are the fields of the library's configs that it uses, with the same defaults;
    `get_params` returns all of them, and `type(model)(**model.get_params())` makes the same model.
    Each is an attribute too; to assign it is `set_params`, which a fitted model refuses.
    """

    configs: ClassVar[tuple[Any, ...]] = ()  # the configs whose fields are its settings
    models: ClassVar[tuple[str, ...]] = ()  # the keys of `presets.NAMES` that it can be
    preset: ClassVar[Mapping[str, Any]] = {}  # defaults of its own
    defaults: ClassVar[Mapping[str, Any]] = {}
    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls) -> None:
        """Collect the settings and their defaults, and show them in the signature."""
        found: dict[str, Any] = {}
        for config in cls.configs:
            for name, one in settings(config).items():
                if {*one.models} & {*cls.models}:
                    found[name] = config.__dataclass_fields__[name].default
        cls.defaults = {**found, **cls.preset}
        own = inspect.signature(cls.__init__).parameters.values()
        kept = [one for one in own if one.name != "self" and one.kind != one.VAR_KEYWORD]
        shown = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value)
            for name, value in cls.defaults.items()
        ]
        cls.__signature__ = inspect.Signature([*kept, *shown])

    def __init__(self, **settings: Any):
        """Make a model that is not fitted.

        Args:
            **settings: See the class; others are refused.

        Raises:
            InputError: A value is out of bounds, or has no effect next to the others.
        """
        if unknown := sorted(settings.keys() - self.defaults.keys()):
            known = inspect.signature(type(self)).parameters
            near = difflib.get_close_matches(unknown[0], known, n=1)
            listed = ", ".join(known) or "none"
            hint = f"did you mean {near[0]}?" if near else f"it has {listed}"
            raise TypeError(f"{type(self).__name__} has no setting {unknown[0]!r}: {hint}")
        self._settings = {**self.defaults, **settings}
        for config in self.configs:
            self._leave_out(config, settings)
        self._train: Part | None = None
        self._check_settings()

    def _leave_out(self, config: Any, given: Mapping[str, Any]) -> None:
        """Reset settings of the preset that have no effect next to the given ones."""
        fields = {name: field.default for name, field in config.__dataclass_fields__.items()}
        for name, one in settings(config).items():
            has_no_effect = unmet_need(one, {**fields, **self._settings})
            if name in self.preset and name not in given and has_no_effect:
                self._settings[name] = fields[name]

    @property
    def key(self) -> str:
        """The key of the model in `presets.NAMES`."""
        return self.models[0]

    @property
    def name(self) -> str:
        """What tables call the model."""
        return NAMES[self.key]

    @property
    def train_(self) -> Part:
        """The training part that the model is fitted on."""
        if self._train is None:
            raise InputError(f"{self.name} is not fitted: call `fit` with a training part")
        return self._train

    def _check_not_fitted(
        self, advice: str = "make a new model, or go on with `partial_fit`"
    ) -> None:
        """Raise InputError where the model is fitted."""
        if self._train is not None:
            raise InputError(f"{self.name} is fitted already: {advice}")

    @property
    def items_(self) -> list[int] | list[str]:
        """The raw ids of the V items that the model knows, by their numbers."""
        return self.train_.items

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return all settings, those at their defaults included.

        Args:
            deep: Ignored; scikit-learn asks so.
        """
        return dict(self._settings)

    def set_params(self: Self, **settings: Any) -> Self:
        """Change settings of a model that is not fitted yet; returns the model.

        Args:
            **settings: Those to change.

        Raises:
            InputError: The model is fitted, or see `__init__`.
        """
        self._check_not_fitted("make a new model with other settings")
        changed = type(self)(**{**self._given(), **settings})
        vars(self).update(vars(changed))
        return self

    def _given(self) -> dict[str, Any]:
        """Return the settings that differ from their defaults."""
        params, defaults = self.get_params(), self._shown_defaults()
        return {name: value for name, value in params.items() if value != defaults[name]}

    def _shown_defaults(self) -> dict[str, Any]:
        parameters = inspect.signature(type(self)).parameters
        return {name: parameters[name].default for name in self.get_params()}

    def __getattr__(self, name: str) -> Any:
        """Return a setting."""
        if not self._is_setting(name):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return self.get_params()[name]

    def __setattr__(self, name: str, value: Any) -> None:
        """Change a setting by `set_params`, or assign another attribute."""
        if self._is_setting(name):
            self.set_params(**{name: value})
        else:
            super().__setattr__(name, value)

    def _is_setting(self, name: str) -> bool:
        """Tell whether it is one; a model that is just being made or copied has none yet."""
        is_made = "_settings" in vars(self)
        return is_made and not name.startswith("_") and name in self.get_params()

    def __repr__(self) -> str:
        """Show the settings that differ from their defaults."""
        listed = ", ".join(f"{name}={value!r}" for name, value in self._given().items())
        return f"{type(self).__name__}({listed})"

    @abc.abstractmethod
    def _check_settings(self) -> None:
        """Raise InputError where the settings do not go together."""

    @abc.abstractmethod
    def recipe_configs(self) -> list[Any]:
        """Return the configs that recipe.json holds."""

    @abc.abstractmethod
    def ranking(self, config: EvaluationConfig) -> Ranking:
        """Rank the test cases of the log that the model is fitted on.

        Args:
            config: Cutoffs, ties and the number of candidates.

        Returns:
            The rank of each case, and how often each item is recommended.
        """

    @abc.abstractmethod
    def _lists(
        self, users: np.ndarray, k: int, left_out: Mapping[int, np.ndarray]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the numbers of the best items and their scores.

        users: [n], -1 if unknown. left_out: of some users, the items that are not listed.
        """

    def recommend(
        self,
        users: Any,
        k: int = 10,
        *,
        exclude_seen: bool = False,
        exclude_session_items: bool | None = None,
    ) -> pl.DataFrame:
        """Recommend items to users, as what comes next after their last training event.

        Args:
            users: Raw ids: a list, an array or a series. Or a frame of polars, pandas or arrow,
                whose column user_id has them; each user is listed once, at the first row.
            k: The length of the lists, at least 1. They are shorter where fewer items are left, or
                where a counting model has a score for fewer.
            exclude_seen: Leave out the items of the user's training events.
            exclude_session_items: Leave out those of the user's last session; by default where the
                log was read with `drop_repeats`, so that none can come again in it.

        Returns:
            Columns user, item (raw ids), score and rank (from 1), a row per recommended item: users
            in the order given, the highest score first, and of equal scores the item that comes
            first in `items_`. Scores compare within a user. A user without a training event gets
            what a network recommends before any event; a counting model has no row for them.

        Warns:
            UserWarning: Some of the users have no training event; once, with their number and the
                first ids.

        Raises:
            InputError: The model is not fitted, an id or `k` is invalid, or `users` is no list of
                ids and no frame with user_id.
        """
        k = min(whole_number("k", k), len(self.items_))
        wanted = _listed(users)
        texts = [id_text("user", user) for user in wanted]
        if len({isinstance(user, str) for user in wanted}) > 1:
            raise InputError("`users` mixes integers and strings: give ids of one kind")
        is_trained = np.zeros(len(self.train_.users), bool)  # others have test events alone
        is_trained[self.train_.events.train.user] = True
        number = {
            str(user): index for index, user in enumerate(self.train_.users) if is_trained[index]
        }
        indices = np.array([number.get(text, -1) for text in texts], np.int64)
        _warn_of_unknown([user for user, n in zip(wanted, indices, strict=True) if n < 0])
        if exclude_session_items is None:
            exclude_session_items = self.train_.meta["recipe"]["drop_repeats"]
        known = np.unique(indices[indices >= 0])
        events, left_out = self.train_.events.train, {}
        if exclude_seen:  # those of the last session too
            left_out = seen_items(events, known)
        elif exclude_session_items:
            left_out = seen_items(events.where(events.in_last_session), known)
        lists = self._lists(indices, k, left_out)
        lengths = [len(items) for items, _ in lists]
        return pl.DataFrame(
            {
                USER: pl.Series(wanted).gather(np.repeat(np.arange(len(wanted)), lengths)),
                ITEM: pl.Series(self.items_).gather(_joined([items for items, _ in lists])),
                SCORE: _joined([scores for _, scores in lists]).astype(np.float64),
                RANK: pl.Series(
                    [n + 1 for length in lengths for n in range(length)], dtype=pl.Int32
                ),
            }
        )

    def save(self, folder: str | pathlib.Path, *, overwrite: bool = False) -> pathlib.Path:
        """Write a run folder, which `hrnn_jax.load` and the commands read.

        It holds the weights of a network, the prepared log, and the ranks and metrics of the test
        part: `experiments.compare` takes it, and of a network `experiments.serve` and
        `experiments.export` too. Everything is written, or nothing.

        Args:
            folder: A folder that does not exist yet, or is empty.
            overwrite: Whether a run in the folder is replaced, once the new one is written.

        Returns:
            The folder.

        Raises:
            InputError: The model is not fitted, or the folder cannot be written, is written by
                another process, or is not empty: with `overwrite`, holds anything but a run.
        """
        return saving.save(self, path_of("`folder`", folder), overwrite=overwrite)

    def continued_from(self) -> dict[str, Any]:
        """Return what recipe.json says of the weights that the model's continue, if it does."""
        return {}

    @abc.abstractmethod
    def write_weights(self, folder: pathlib.Path) -> dict[str, Any]:
        """Write what only this kind of model keeps into a run folder.

        Args:
            folder: Of the run.

        Returns:
            What metrics.json says of the training: "seed", "epochs", and what
            `training_figures` returns.
        """


def _listed(users: Any) -> list[Any]:
    """Return the raw ids of `users`, see `Model.recommend`; they are not checked."""
    if isinstance(users, pl.LazyFrame) or hasattr(users, "columns"):
        frame = frames.as_polars(users)
        if frames.USER not in frame.columns:
            raise InputError(
                f"`users` has no column {frames.USER!r}: rename one of {', '.join(frame.columns)}"
            )
        users = frame[frames.USER].unique(maintain_order=True)
    elif hasattr(users, "to_pylist"):  # an array of arrow, whose own values are no ids
        users = users.to_pylist()
    elif isinstance(users, Mapping):
        raise InputError("`users` is a mapping: give a list of ids, or a frame")
    return list(several_ids("`users`", users))


def _warn_of_unknown(users: Iterable[Id]) -> None:
    """Warn the caller of `recommend` of users without a training event."""
    unknown = list(dict.fromkeys(users))
    if unknown:
        listed = ", ".join(map(repr, unknown[:3])) + (", ..." if len(unknown) > 3 else "")
        warnings.warn(
            f"users without a training event: {len(unknown):,} ({listed}); a network gives them a "
            "newcomer's list, a counting model none",
            stacklevel=3,
        )


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros(0, np.int64)


def with_cases(train: EventLog, users: np.ndarray) -> EventLog:
    """Add a test event of item 0 to the last session of each user: a case after all they did.

    Args:
        train: Training events alone.
        users: The numbers of users in it, rising.
    """
    ends = np.append(np.flatnonzero(train.opens_user)[1:], len(train))
    at = ends[np.searchsorted(train.user[ends - 1], users)]
    added = {"user": users, "item": 0, "session": train.session[at - 1], "time": train.time[at - 1]}
    columns = {
        name: np.insert(getattr(train, name), at, np.asarray(value, getattr(train, name).dtype))
        for name, value in added.items()
    }
    test = np.insert(train.test, at, values=True)
    return EventLog(**columns, test=test, n_items=train.n_items, has_times=train.has_times)


def seen_items(events: EventLog, users: np.ndarray) -> dict[int, np.ndarray]:
    """Return the different items of each of some users, by the user's number."""
    mine = events.where(np.isin(events.user, users))
    opens = np.flatnonzero(mine.opens_user)
    parts = np.split(mine.item, opens[1:]) if len(mine) else []
    return {int(mine.user[at]): np.unique(part) for at, part in zip(opens, parts, strict=True)}


def check_train(train: Any) -> Part:
    """Return a training part. Raises InputError where the value is something else."""
    if isinstance(train, Log):
        raise InputError("split the log first: train, test = log.split('last_session')")
    if not isinstance(train, Part):
        raise InputError(
            f"{type(train).__name__}: give the training part of a log: "
            "train, test = hrnn_jax.read(frame).split('last_session')"
        )
    if train.is_test:
        raise InputError("this is the test part: fit on the training part")
    return train


def check_test(name: str, train: Part, test: Any) -> EventLog:
    """Return the events whose test cases a model ranks.

    Args:
        name: Of the model, for the message.
        train: The training part that it is fitted on.
        test: The test part.

    Raises:
        InputError: The value is no test part, or not of the log that the model is fitted on.
    """
    if not isinstance(test, Part) or not test.is_test:
        raise InputError("give the test part of the log that the model is fitted on")
    known = train.meta["known_items"]  # of the model that was trained further
    same = test.continuing(train.items[:known]) if known else test
    if same.folder.name != train.folder.name:
        raise InputError(
            f"this is the test part of {test.title} ({test.folder.name}), but {name} is "
            f"fitted on {train.title} ({train.folder.name}): evaluate on the part that was split "
            "off with the training part"
        )
    return same.events
