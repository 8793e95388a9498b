"""Titles, pictures and pages of items, read from a table with a row for each item."""

from __future__ import annotations

import itertools
import pathlib
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import polars as pl

from hrnn_jax.errors import InputError, reason
from hrnn_jax.ids_and_times import CONTROL, Id, id_text

ID, TITLE, IMAGE, URL = COLUMNS = ("item_id", "title", "image", "url")
_ADDRESSES = (IMAGE, URL)
_MAX_TITLE, _MAX_ADDRESS = 256, 2_048  # characters
_HOST = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*(:[0-9]{1,5})?")


class ItemCatalogue:
    """What is known of items besides their ids."""

    def __init__(
        self, path: pathlib.Path | None = None, known: Mapping[str, dict[str, str]] | None = None
    ) -> None:
        """Take the entries of a file.

        Args:
            path: of the file; None without one.
            known: by the text of the id, those of title, image and url that there are.
        """
        self.path = path
        self._known: Mapping[str, dict[str, str]] = MappingProxyType({} if known is None else known)

    def of(self, item: Id) -> dict[str, str]:
        """Return those of title, image and url that are known of an item."""
        return self._known.get(str(item), {})

    def find(self, text: str, items: Sequence[Id], limit: int) -> list[Id]:
        """Return items whose id begins with a text, then those whose title has it."""
        found = dict.fromkeys(
            itertools.islice((i for i in items if str(i).startswith(text)), limit)
        )
        if text and self._known and len(found) < limit:
            wanted = text.casefold()
            titled = (i for i in items if wanted in self.of(i).get(TITLE, "").casefold())
            found |= dict.fromkeys(itertools.islice(titled, limit))
        return list(found)[:limit]

    def lines(self, items: Sequence[Id], image_hosts: Sequence[str]) -> list[str]:
        """Say how the file fits a model and a page.

        Args:
            items: that the model knows.
            image_hosts: whose pictures the page shows.
        """
        if self.path is None:
            return []
        texts = {str(item) for item in items}
        n_titles = sum(TITLE in self._known.get(text, {}) for text in texts)
        said = [f"{n_titles:,} of {len(texts):,} items have a title in {self.path}"]
        if unknown := [item for item in self._known if item not in texts]:
            said.append(
                f"warning: {len(unknown):,} items of {self.path} are none of the model's, such as "
                f"{unknown[0]!r}"
            )
        images = (known[IMAGE] for known in self._known.values() if IMAGE in known)
        hosts = [host for host in map(_host_of, images) if not is_admitted(host, image_hosts)]
        if hosts:
            said.append(
                f"warning: --image_hosts does not name the hosts of some pictures, which the page "
                f"does not show: {len(hosts):,}, such as one of {hosts[0]}"
            )
        return said


def read(path: pathlib.Path) -> ItemCatalogue:
    """Read a file of items.

    Args:
        path: of a .csv or .parquet file with the columns item_id and title, and, if there are any,
            image and url. Other columns are not read.

    Raises:
        InputError: it is missing or damaged, lacks a column, or a row is invalid.
    """
    frame = _frame(path)
    known: dict[str, dict[str, str]] = {}
    rows: dict[str, int] = {}
    for number, (item, *values) in enumerate(frame.iter_rows(), 1):
        where = f"--items={path}, row {number}"
        if item is None:
            raise InputError(f"{where}: there is no item_id")
        try:
            text = id_text(ID, item)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        if text in rows:
            raise InputError(f"{where}: item_id {text!r} is in row {rows[text]} too: keep one")
        rows[text] = number
        entry = dict(zip(frame.columns[1:], map(_line, values), strict=True))
        entry[TITLE] = _cut(entry[TITLE])
        for name in _ADDRESSES:
            if address := entry.get(name):
                _check_address(where, name, address)
        known[text] = {name: value for name, value in entry.items() if value}
    return ItemCatalogue(path, known)


def check_hosts(hosts: Sequence[str]) -> list[str]:
    """Return the hosts of pictures in lower case, as a content policy names them.

    Raises:
        InputError: one is no name of a host.
    """
    lower = [host.lower() for host in hosts]
    for host in lower:
        if not _HOST.fullmatch(host):
            raise InputError(
                f"--image_hosts={host!r}: give names of hosts, such as images.example.com, "
                "*.example.com or localhost:8080"
            )
    return lower


def is_admitted(host: str, hosts: Sequence[str]) -> bool:
    """Tell whether a content policy that names these hosts lets a browser load from a host.

    Args:
        host: name and, if it is not the usual one, port.
        hosts: as `check_hosts` returns them; a name that begins with *. is that of all subdomains.
    """
    return any(
        host == named or (named.startswith("*.") and host.endswith(named[1:])) for named in hosts
    )


def _frame(path: pathlib.Path) -> pl.DataFrame:
    """Return the known columns of a file as texts, and the ids as texts or integers."""
    kind = path.suffix.lower()
    if kind not in (".csv", ".parquet"):
        raise InputError(f"--items={path}: give a .csv or a .parquet file")
    if not path.is_file():
        raise InputError(f"--items={path}: there is no such file")
    try:
        if kind == ".csv":
            frame = pl.read_csv(path, infer_schema=False, glob=False)
        else:
            frame = pl.read_parquet(path, glob=False, hive_partitioning=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        said = reason(error)
        if "utf-8" in said.lower() or "utf8" in said.lower():
            said = "it is not written in UTF-8"
        raise InputError(f"--items={path} cannot be read: {said}") from error
    lacking = [name for name in (ID, TITLE) if name not in frame.columns]
    if lacking:
        raise InputError(
            f"--items={path}: no column {', '.join(lacking)}; the file has "
            f"{', '.join(frame.columns)}"
        )
    for name in COLUMNS:
        if f"{name}_duplicated_0" in frame.columns:  # polars' name of a second one
            raise InputError(f"--items={path}: two columns are called {name}: keep one")
    frame = frame.select(name for name in COLUMNS if name in frame.columns)
    for name, dtype in frame.schema.items():
        if name == ID:
            if not (_is_text(dtype) or dtype.is_integer()):
                raise InputError(
                    f"--items={path}: item_id is of type {dtype}; give integers or texts"
                )
        elif not (_is_text(dtype) or dtype == pl.Null or (name == TITLE and dtype.is_integer())):
            raise InputError(f"--items={path}: {name} is of type {dtype}; give texts")
    texts = [pl.col(name).cast(pl.String) for name in frame.columns[1:]]
    ids = pl.col(ID) if frame.schema[ID].is_integer() else pl.col(ID).cast(pl.String)
    return frame.select(ids, *texts)


def _is_text(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.String | pl.Categorical | pl.Enum)


def _line(value: str | None) -> str:
    """Return a text in one line, without control characters."""
    return " ".join(re.sub(CONTROL, " ", value or "").split())


def _cut(title: str) -> str:
    return title if len(title) <= _MAX_TITLE else f"{title[: _MAX_TITLE - 1]}…"


def _check_address(where: str, name: str, address: str) -> None:
    """Raise InputError unless a browser may load from an address: no script, no file."""
    try:
        parts = urllib.parse.urlsplit(address)
        # A port that is none raises when it is read.
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_web = False
    if not is_web or len(address) > _MAX_ADDRESS or " " in address:
        raise InputError(
            f"{where}: {name} {address[:60]!r}: give an address that begins with https:// or "
            f"http:// and has at most {_MAX_ADDRESS:,} characters"
        )


def _host_of(address: str) -> str:
    """Return the host of an address, and its port if it is not the usual one."""
    parts = urllib.parse.urlsplit(address)
    host = parts.netloc.rpartition("@")[2].lower()
    return host.removesuffix(":443" if parts.scheme == "https" else ":80")
