"""What is compared: models of other libraries, and the models here that stand beside them."""

from __future__ import annotations

import dataclasses
import pathlib

SCRIPTS = pathlib.Path(__file__).with_name("scripts")


@dataclasses.dataclass(frozen=True)
class Library:
    """Another library, which gets a virtual environment of its own."""

    key: str
    name: str

    @property
    def requirements(self) -> pathlib.Path:
        """The file of the packages to install, with their versions."""
        return SCRIPTS / f"{self.key}.txt"

    @property
    def script(self) -> pathlib.Path:
        """The script that measures a model of this library."""
        return SCRIPTS / f"run_{self.key}.py"


@dataclasses.dataclass(frozen=True)
class Peer:
    """A model of another library."""

    key: str
    library: Library
    model: str  # the script's first argument

    @property
    def name(self) -> str:
        """Its name in tables."""
        return f"{self.library.name} {self.model}"


@dataclasses.dataclass(frozen=True)
class Ours:
    """A model of this project."""

    key: str
    name: str
    flags: tuple[str, ...]
    beside: Peer  # what it is compared with


RECBOLE, RECTOOLS = Library("recbole", "RecBole"), Library("rectools", "RecTools")
LIBRARIES = (RECBOLE, RECTOOLS)
RECBOLE_GRU4REC = Peer("recbole_gru4rec", RECBOLE, "GRU4Rec")
RECBOLE_SASREC = Peer("recbole_sasrec", RECBOLE, "SASRec")
RECTOOLS_SASREC = Peer("rectools_sasrec", RECTOOLS, "SASRec")
RECTOOLS_BERT4REC = Peer("rectools_bert4rec", RECTOOLS, "BERT4Rec")
_SOFTMAX = ("--loss=full_softmax", "--optimizer=adam", "--learning_rate=0.001", "--momentum=0")
# In the order of a turn and of the tables. RecTools has no GRU4Rec.
CONTENDERS: tuple[Peer | Ours, ...] = (
    RECBOLE_GRU4REC,
    Ours("rnn", "RNN small", ("--flagfile=rnn_small.flags",), RECBOLE_GRU4REC),
    Ours(
        "rnn_softmax",
        "RNN small, full softmax",  # the loss and the optimizer of the peer beside it
        ("--flagfile=rnn_small.flags", *_SOFTMAX),
        RECBOLE_GRU4REC,
    ),
    Ours("hrnn_init", "HRNN Init small", ("--flagfile=hrnn_init_small.flags",), RECBOLE_GRU4REC),
    RECBOLE_SASREC,
    RECTOOLS_SASREC,
    RECTOOLS_BERT4REC,
    Ours("hrnn_plus", "hrnn_plus", ("--flagfile=hrnn_plus.flags",), RECTOOLS_SASREC),
)
