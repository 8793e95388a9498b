"""The names of a log's columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Columns:
    """The names of a log's columns.

    Without a session column, sessions are cut at idle gaps. Without a time column, the order of a
    user's events is that of the file, and a user has one session unless there are given ones.
    """

    user_column: str = "user_id"
    item_column: str = "item_id"
    time_column: str | None = "ts"
    session_column: str | None = None
    type_column: str | None = None
    part_column: str | None = None  # of a split that the log brings: train, validation or test

    @classmethod
    def of(cls, columns: Mapping[str, str | None]) -> Columns:
        """Make the columns from what `by_name` returned, as a prepared folder's meta.json holds."""
        return cls(**{f"{name}_column": column for name, column in columns.items()})  # type: ignore

    @property
    def by_name(self) -> dict[str, str | None]:
        """The schema's name of each column -> its name in the file; of parts only if there are."""
        named = {name.removesuffix("_column"): column for name, column in vars(self).items()}
        if self.part_column is None:  # logs without parts keep the names of their folders
            del named["part"]
        return named
