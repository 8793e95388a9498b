"""An event log as estimators take it: read from a file or a frame, split into train and test."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import hashlib
import io
import logging
import pathlib
import re
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import polars as pl

from hrnn_jax.arguments import path_of
from hrnn_jax.config import DataConfig, ReadConfig
from hrnn_jax.errors import InputError, reason
from hrnn_jax.event_log import EventLog
from hrnn_jax.files import atomic
from hrnn_jax.preprocess import frames, past_sessions, prepared, read_log
from hrnn_jax.preprocess.read_log import Columns, Source
from hrnn_jax.preprocess.reading import files

PREPARED_DIR = "out/prepared"  # where commands prepare logs too
_FRAME = "a data frame"  # the title of a log that was read from one
_READING = [field.name for field in dataclasses.fields(ReadConfig)]
_ARGUMENTS = (
    "user",
    "item",
    "time",
    "session",
    "type",
    "part",
    "prepared_dir",
    *_READING,
)  # of `read`
# What `Log.split` takes -> `DataConfig.split`; the first holds for `protocol`=last_session alone.
SPLITS = {"last_session": "test", "test": "test", "validation": "validation"}


@dataclasses.dataclass(frozen=True)
class Part:
    """The training or the test events of a split log.

    Both parts belong to one prepared folder: items and users are numbered by the training events,
    and the test sessions are ranked after the training sessions of the same users.

    Attributes:
        folder: The prepared folder, see `preprocess.prepared`.
        is_test: Whether these are the test events.
        log: The log that was split; None for that of a loaded model.
        by: What is held out, a key of `SPLITS`.
    """

    folder: pathlib.Path
    is_test: bool
    log: Log | None = None
    by: str = "test"

    @functools.cached_property
    def events(self) -> EventLog:
        """All events of the prepared folder, those of the other part included."""
        return prepared.load(self.folder)

    @functools.cached_property
    def meta(self) -> dict[str, Any]:
        """The content of its meta.json: recipe, counts, statistics."""
        return prepared.load_meta(self.folder)

    @functools.cached_property
    def items(self) -> list[int] | list[str]:
        """The raw ids of the V items, in the order of their numbers."""
        return prepared.load_items(self.folder)

    @functools.cached_property
    def users(self) -> list[int] | list[str]:
        """The raw ids of the U users, in the order of their numbers."""
        return prepared.load_table(self.folder, prepared.USERS)[read_log.RAW_ID].to_list()

    @property
    def title(self) -> str:
        """What results on it are called."""
        return self.log.title if self.log else str(self.meta["source"]["path"])

    def frame(self) -> pl.DataFrame:
        """Return the events of this part.

        Returns:
            Columns user_id, item_id (raw ids), ts (Unix seconds) and session_id (numbers, rising
            within a user), by user, and a user's by time.
        """
        return frames.prepared_events(self.folder, test=self.is_test)

    def continuing(self, items: Sequence[int] | Sequence[str]) -> Part:
        """Return this part of the log with the items of a model first, which keep their numbers."""
        if self.log is None:
            return self
        return self.log.part(self.by, is_test=self.is_test, continued_items=items)

    def __len__(self) -> int:
        """Return the number of its events."""
        return int((self.events.test == self.is_test).sum())

    def __repr__(self) -> str:
        """Describe it in a line."""
        part, users = self.events.where(self.events.test == self.is_test), self.events.opens_user
        sessions = int((~part.follows).sum())
        return (
            f"<{'test' if self.is_test else 'training'} part of {self.title}: {users.sum():,} "
            f"users, {self.events.n_items:,} items, {sessions:,} sessions, {len(part):,} events; "
            f"{self._kept}>"
        )

    @property
    def _kept(self) -> str:
        """How much of the log both parts hold, after the filters."""
        first, last = self.meta["counts"][0], self.meta["counts"][-1]
        names = ("users", "items", "events")
        kept = ", ".join(f"{last[name]:,} of {first[name]:,} {name}" for name in names)
        return f"with the other part {kept} of the log"


@dataclasses.dataclass(frozen=True)
class Log:
    """An event log and the recipe by which it is cut into sessions and filtered.

    Attributes:
        source: Where it is, and how to read it.
        recipe: How it is cut, filtered and split (Section 4.1).
        prepared_dir: The folder that keeps prepared logs, to use again.
        title: What results on it are called.
    """

    source: Source
    recipe: DataConfig
    prepared_dir: pathlib.Path
    title: str

    @property
    def name(self) -> str:
        """The name of its data set."""
        return self.source.name

    def frame(self) -> pl.DataFrame:
        """Read the events before they are cut and filtered.

        Returns:
            Columns user_id, item_id (raw ids), ts (UTC) and, where the log has one, session_id.
        """
        with _words_of_read(self.source.path, self.title):
            events = read_log.read(self.source, parts=self.recipe.protocol == "given")
        return frames.raw_events(events)

    def split(self, by: str = "test") -> tuple[Part, Part]:
        """Hold out the last session of each user, or what `protocol` says.

        Args:
            by: What is held out. "test": what the log's `protocol` holds out, each user's last
                session by default, which "last_session" stands for too. "validation": with that
                set aside, what the protocol holds out next, to tune on.

        Returns:
            The training part and the test part.

        Raises:
            InputError: The log cannot be read, or its filters leave no user; the message has the
                counts after each of them.
        """
        if by not in list(SPLITS):  # by ==, also what has no hash
            raise InputError(f"`by`={by}: give last_session, test or validation")
        if by == "last_session" != self.recipe.protocol:
            raise InputError(
                f"`by`={by}: the log has `protocol`={self.recipe.protocol}; give test, or read the "
                "log with another `protocol`"
            )
        train = self.part(by, is_test=False)
        return train, dataclasses.replace(train, is_test=True)

    def part(
        self,
        by: str,
        *,
        is_test: bool,
        continued_items: Sequence[int] | Sequence[str] = (),
    ) -> Part:
        """Prepare one part of the log, see `split`.

        Args:
            by: What is held out.
            is_test: Whether the part is the test part.
            continued_items: See `prepared.prepare`.
        """
        recipe = dataclasses.replace(self.recipe, split=SPLITS[by])
        with _words_of_read(self.source.path, self.title):
            folder = prepared.prepare(
                self.source, recipe, self.prepared_dir, continued_items=continued_items
            )
        return Part(folder, is_test, self, by)

    def __repr__(self) -> str:
        """Describe it in a line, with the format in which its times are read."""
        column = self.source.columns.time_column
        try:
            time_format = read_log.time_format(self.source)
        except InputError:  # splitting it says so
            return f"<log {self.title}>"
        if column is None:
            return f"<log {self.title}: {time_format}>"
        return f"<log {self.title}: times of column {column!r} in {time_format}>"


def read(
    events: Any,
    *,
    user: str = "user_id",
    item: str = "item_id",
    time: str | None = "ts",
    session: str | None = None,
    **settings: Any,
) -> Log:
    """Read an event log: a row per event, from a file or a data frame.

    Args:
        events: The path of a .csv, .tsv, .jsonl or .parquet file, optionally followed by .gz (or
            .zst, of text), of a folder of such files, several paths separated by commas, or a
            pattern; or a frame of polars, pandas or arrow, a copy of which is kept below
            `prepared_dir`.
        user: The column of user ids, integers or strings.
        item: The column of item ids, integers or strings.
        time: The column of times: Unix seconds, milliseconds, microseconds or nanoseconds, ISO
            8601, a type of dates, or the form of `time_format`. None: there are no times, and a
            user's events are in the order of the file, in one session without `session`.
        session: The column of session ids. Without one, sessions are cut at idle gaps.
        **settings: Fields of `DataConfig`, as in `min_support=5`, and of `ReadConfig`, as in
            `separator=";"`; `type`, the column of event types for `drop_types` and `drop_repeats`;
            `part`, the column of parts for `protocol="given"`: train, validation or test; and
            `prepared_dir`, the folder that keeps prepared logs ("out/prepared" by default, as for
            commands).

    Returns:
        The log; it is read when it is split.

    Raises:
        InputError: A setting is out of bounds, or the frame is of an unknown kind.
    """
    prepared_dir = path_of("`prepared_dir`", settings.pop("prepared_dir", PREPARED_DIR))
    optional = {"time": time, "session": session}
    optional |= {name: settings.pop(name, None) for name in ("type", "part")}
    columns = Columns(user, item, *optional.values())
    reading = ReadConfig.of(taken_reading(settings))
    recipe = with_settings(DataConfig(), settings, _ARGUMENTS)
    for name, column in {"user": user, "item": item, **optional}.items():
        if not isinstance(column, str) and (column is not None or name not in optional):
            raise InputError(f"`{name}`={column!r}: give the name of a column")
    if isinstance(events, str | pathlib.Path):
        path, title = path_of("`events`", events), str(events)
        with _words_of_read(path, title):
            files.find(path)
    else:
        used = [column for column in columns.by_name.values() if column is not None]
        frame = frames.as_polars(events, others="a path, or ", columns=used)
        path, title = _kept(frame, prepared_dir), _FRAME
    return Log(Source("events", path, columns, reading), recipe, prepared_dir, title)


def past_sessions_of(train: Part, history: Any) -> pl.DataFrame | None:
    """Return the sessions of a history, see `NetworkModel.live`, which knows what sessions it has.

    Args:
        train: The part whose events are the history where that is True.
        history: True, a log or a part of one.

    Returns:
        The sessions, see `past_sessions`; None where the history is something else.
    """
    part = train if history is True else history
    if isinstance(part, Part):
        return past_sessions.of_folder(part.folder, test=part.is_test)
    if isinstance(part, Log):
        with _words_of_read(part.source.path, part.title):
            return past_sessions.of_log(part.source, part.recipe)
    return None


def taken_reading(settings: dict[str, Any]) -> dict[str, Any]:
    """Take the fields of `ReadConfig` out of settings, and return them."""
    return {name: settings.pop(name) for name in _READING if name in settings}


def with_settings(
    recipe: DataConfig, settings: Mapping[str, Any], arguments: Sequence[str]
) -> DataConfig:
    """Return a recipe with some of its fields replaced. Raises TypeError for unknown ones.

    Args:
        recipe: What has the other fields.
        settings: The fields.
        arguments: What else the caller takes, for the message.
    """
    known = [field.name for field in dataclasses.fields(DataConfig) if field.name != "split"]
    if unknown := sorted(settings.keys() - {*known}):
        listed = [*arguments, *known]
        near = difflib.get_close_matches(unknown[0], listed, n=1)
        hint = f"did you mean {near[0]}? It takes" if near else "it takes"
        raise TypeError(f"{unknown[0]!r} is no setting of a log: {hint} {', '.join(listed)}")
    return dataclasses.replace(recipe, **settings)


@contextlib.contextmanager
def _words_of_read(path: pathlib.Path, title: str) -> Generator[None]:
    """Name the arguments of `read` in errors about a log, and not the file that keeps a frame.

    What is logged names no such file either.
    """

    def shown(text: str) -> str:
        return text.replace(str(path), title) if title == _FRAME else text

    def rename(record: logging.LogRecord) -> bool:
        record.msg, record.args = shown(record.getMessage()), ()
        return True

    read_log.logger.addFilter(rename)
    try:
        yield
    except InputError as error:
        text = re.sub(r"`(\w+)_column`", r"`\1`", str(error)).replace("with `events`", "to `read`")
        raise InputError(shown(text)) from None
    finally:
        read_log.logger.removeFilter(rename)


def _kept(frame: pl.DataFrame, prepared_dir: pathlib.Path) -> pathlib.Path:
    """Write a frame below the prepared logs, under a name made of its content."""
    content = io.BytesIO()
    try:
        frame.write_parquet(content)
    except pl.exceptions.PolarsError as error:  # of a type that no file has
        raise InputError(f"the frame cannot be kept: {reason(error)}") from error
    digest = hashlib.sha256(content.getvalue()).hexdigest()[:12]
    path = prepared_dir / "raw" / f"frame-{digest}.parquet"
    if not path.exists():
        with atomic.writing(path, elsewhere=prepared.ELSEWHERE) as partial:
            partial.write_bytes(content.getvalue())
    return path
