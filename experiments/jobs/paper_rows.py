"""The rows of Tables 3 and 5, one entry each: flags, name, section, and what it is compared with.

The rows of networks differ in size, in the leak of GRU_ses (the form) and, for HRNN All, in where
the user state enters. "equations" is Eq. 1 and 4, and the authors' code since December 2018;
"code of 2017" is their code of June 2017, see `ModelConfig`. RNN and RNN Concat start no session
from a user's state: they are the same in both forms and stand once, under "equations". "tuned" rows
start from the code of 2017; their settings are searched on the column's own log, see
`paper.searches`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from hrnn_jax.config import HRNNS
from hrnn_jax.errors import InputError

from ..common import cli
from ..common.model_names import BEYOND, NAMES, PAPER_BASELINES, SIZES

EQUATIONS, CODE_2017 = "equations", "code of 2017"  # the forms
_LEAKS = {EQUATIONS: "equation", CODE_2017: "carried"}
# Where the loss passes that of constant scores, a network is worse than none: TOP1's is 1.
_STOP = ("--stop_above_loss=1",)
# Model, its name in tables, the suffix of its key, and its flags.
_NETWORKS = (
    ("rnn", NAMES["rnn"], "", ()),
    ("rnn_concat", NAMES["rnn_concat"], "", ()),
    ("hrnn_all", f"{NAMES['hrnn_all']}, Eq. 5", "", ("--user_input=full",)),
    ("hrnn_all", f"{NAMES['hrnn_all']}, gates", "_gates", ("--user_input=gates",)),
    ("hrnn_init", NAMES["hrnn_init"], "", ()),
)
_TUNED = {"rnn": (), "hrnn_init": (f"--leak={_LEAKS[CODE_2017]}",)}  # flags by model
_REPEATED = ("rnn_large", "hrnn_init_2017_large")


@dataclasses.dataclass(frozen=True)
class Row:
    """A model with its settings, which is a row of a table."""

    key: str  # in file names and CSV files
    size: str | None  # one of SIZES; None for a method without training
    flags: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaperRow(Row):
    """A row of the paper's tables, or of a method beyond the paper."""

    model: str
    name: str  # within its section
    section: str  # the heading above it
    form: str | None = None  # of an HRNN
    tuned: bool = False  # its flags are those before a search, which replaces some of them
    repeated: bool = False  # of a large network: has several seeds on the paper's two data sets

    @property
    def full_name(self) -> str:
        """The name where no section is above it."""
        if self.size is None:
            return self.name
        return f"{self.name} ({self.section if self.form or self.tuned else self.size})"

    @property
    def printed(self) -> str:
        """The row of the paper's tables that has its numbers and settings."""
        return self.model if self.size is None else f"{self.model}_{self.size}"

    @property
    def is_hrnn(self) -> bool:
        """Whether it is an HRNN."""
        return self.model in HRNNS


def _network_rows() -> Iterator[PaperRow]:
    for size in SIZES:
        for form, of_form in ((EQUATIONS, ""), (CODE_2017, "_2017")):
            for model, name, suffix, flags in _NETWORKS:
                is_hrnn = model in HRNNS
                if form == CODE_2017 and not is_hrnn:
                    continue
                key = f"{model}{suffix}{of_form}_{size}"
                file = "rnn" if model == "rnn_concat" else model  # Table 2 has one line for both
                of_form_flags: tuple[str, ...] = (f"--leak={_LEAKS[form]}",) if is_hrnn else ()
                if is_hrnn and size == "large":
                    of_form_flags = (*of_form_flags, *_STOP)
                yield PaperRow(
                    key,
                    size,
                    (f"--flagfile={file}_{size}.flags", f"--model={model}", *flags, *of_form_flags),
                    model=model,
                    name=name,
                    section=f"{form}, {size}",
                    form=form if is_hrnn else None,
                    repeated=key in _REPEATED,
                )


def _tuned_rows() -> Iterator[PaperRow]:
    for model, flags in _TUNED.items():
        yield PaperRow(
            f"{model}_tuned_large",
            "large",
            (f"--flagfile={model}_large.flags", f"--model={model}", *flags),
            model=model,
            name=NAMES[model],
            section="tuned, large",
            form=CODE_2017 if model in HRNNS else None,
            tuned=True,
        )


def _counting_rows(section: str, keys: Sequence[str]) -> Iterator[PaperRow]:
    for key in keys:
        yield PaperRow(key, None, (f"--model={key}",), model=key, name=NAMES[key], section=section)


# In the order of the tables.
ROWS = {
    row.key: row
    for row in (
        *_counting_rows("baselines", [*PAPER_BASELINES]),
        *_network_rows(),
        *_tuned_rows(),
        *_counting_rows("beyond the paper", [*BEYOND]),
    )
}
NETWORKS = {key: row for key, row in ROWS.items() if row.size}


def sections() -> dict[str, dict[str, str]]:
    """Return the headings of the tables, and below each the names of its rows by key."""
    found: dict[str, dict[str, str]] = {}
    for row in ROWS.values():
        found.setdefault(row.section, {})[row.key] = row.name
    return found


def reference(row: PaperRow, model: str) -> str | None:
    """Return the row of another model that a network is compared with, if there is one.

    It is in the row's section, or of its size under "equations"; a tuned row is compared with
    tuned ones alone.
    """
    sections = (row.section,) if row.tuned else (row.section, f"{EQUATIONS}, {row.size}")
    for section in sections:
        for key, other in NETWORKS.items():
            if (other.section, other.model) == (section, model):
                return key
    return None


def small_counterpart(row: PaperRow) -> str | None:
    """Return the small network of a large one's model and form; None of other rows."""
    like = [
        key
        for key, other in NETWORKS.items()
        if other.size == "small" and (other.name, other.form) == (row.name, row.form)
    ]
    return like[0] if row.size == "large" and like else None


def compared_pairs() -> Iterator[tuple[str, str]]:
    """Yield the pairs of rows that are tested for a difference.

    A network with RNN, RNN Concat and HRNN Init of its size and form, as the marks of Table 3 need
    them, with the baselines, and a large one with the small one.
    """
    for row in NETWORKS.values():
        models = {"rnn": (), "rnn_concat": ("rnn",), "hrnn_init": ("rnn", "rnn_concat")}
        others = models.get(row.model, ("rnn", "rnn_concat", "hrnn_init"))
        bases = [*(reference(row, model) for model in others), *PAPER_BASELINES]
        yield from ((row.key, base) for base in (*bases, small_counterpart(row)) if base)


def figure_rows(size: str) -> dict[str, str]:
    """Return the rows of Figures 3 to 6 by model.

    Small HRNNs by the equations; large ones by the code of 2017, HRNN All with its gates.
    """
    keys = {
        "small": ("rnn_small", "rnn_concat_small", "hrnn_all_small", "hrnn_init_small"),
        "large": (
            "rnn_large",
            "rnn_concat_large",
            "hrnn_all_gates_2017_large",
            "hrnn_init_2017_large",
        ),
    }
    return {ROWS[key].model: key for key in keys[size]}


def chosen_rows(keys: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """Return the rows of --rows in the order of the tables; None stands for all.

    Raises:
        InputError: one is not among the known ones, or there is none.
    """
    keys = known if keys is None else keys
    if unknown := sorted(set(keys) - set(known)) or ([] if keys else [""]):
        hint = f"; {near}" if (near := cli.near(unknown[0], known)) else ""
        raise InputError(f"--rows: {unknown[0]!r} is none; give some of {', '.join(known)}{hint}")
    return [key for key in known if key in keys]
