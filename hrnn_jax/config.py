"""Every setting once: its default, its bounds, what it means and which models use it.

A frozen dataclass each for preprocessing, model, training and evaluation. The command line makes
its flags from these fields (`settings`); a caller in Python sets them as arguments. Values are
checked when a config is made. Nothing here imports jax or polars.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import numbers
import re
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

from hrnn_jax import errors

Ties = Literal["against", "for"]
Split = Literal["test", "validation"]
Protocol = Literal["last_session", "leave_one_out", "global_time", "given"]
Task = Literal["next_item", "last_item"]
UnknownItems = Literal["skip", "error"]
Index = Literal["exact", "faiss"]
OnBadRow = Literal["error", "skip"]

HRNNS = ("hrnn_init", "hrnn_all")
NETWORKS = ("rnn", "rnn_concat", *HRNNS)
BASELINES = (
    *("ppop", "item_knn", "markov", "sr"),
    *("vsknn", "vsknn_br", "stan", "vstan", "u_vstan", "ease", "popular", "counts"),
)
STANS = ("stan", "vstan", "u_vstan")
MODELS = [*NETWORKS, *BASELINES]  # and those that `baselines.by_name.register` adds
SAMPLED_LOSSES = ["top1", "bpr", "top1_max", "bpr_max", "cross_entropy"]  # and those added later
_WITH_EXTRA_NEGATIVES = [*SAMPLED_LOSSES, "softmax"]
LOSSES = [*SAMPLED_LOSSES, "full_softmax", "softmax"]
FULL_SOFTMAX_ITEMS = 20_000  # the largest catalogue that `loss`=softmax scores as a whole

_KINDS = {  # a field's type -> what is taken for it, and its name in messages
    bool: (bool, "True or False"),
    int: (numbers.Integral, "a whole number"),
    float: (numbers.Real, "a number"),
    str: (str, "a text"),
}
MAX_GAP_MINUTES = 1e9  # 1,900 years; in microseconds it still fits 64 bits


@dataclasses.dataclass(frozen=True)
class Setting:
    """The bounds and the use of one field of a config; its meaning is in the class's docstring.

    Attributes:
        least: The smallest value.
        above: Values must be greater than this one.
        most: The largest value.
        choices: The only values, if there are any.
        is_path: Whether it is a path, which is never empty.
        models: The models that use it.
        needs: Other fields without which it has no effect: each must have one of the values given,
            or for () any value that switches it on.
    """

    least: float = -math.inf
    above: float = -math.inf
    most: float = math.inf
    choices: Sequence[str] = ()
    is_path: bool = False
    models: Sequence[str] = dataclasses.field(default_factory=lambda: MODELS)
    needs: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)

    @property
    def bounds(self) -> str:
        """The numbers that it takes, as in: a number from 0 to 1. Empty where it takes all."""
        if self.above > -math.inf:
            most = f", at most {self.most:g}" if self.most < math.inf else ""
            return f"a number above {self.above:g}{most}"
        if self.most < math.inf:
            return f"a number from {self.least:g} to {self.most:g}"
        return f"{self.least:g} or more" if self.least > -math.inf else ""

    def problem(self, value: Any) -> str | None:
        """Say what to give instead of a value that is out of bounds; None for a good one."""
        if self.choices and value not in (*self.choices, None):
            return f"give {_either(self.choices)}"
        if self.is_path and value == "":
            return "give a path, or leave it out"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if not math.isfinite(value):
            return "give a finite number"
        within = self.least <= value <= self.most and value > self.above
        return None if within else f"give {self.bounds}"


def setting(default: Any, **details: Any) -> Any:
    """Declare a field of a config with its default and its `Setting`."""
    return dataclasses.field(default=default, metadata={"setting": Setting(**details)})


def settings(config: Any) -> dict[str, Setting]:
    """Return the `Setting` of each field of a config (or its class) that declares one, by name."""
    return {
        field.name: field.metadata["setting"]
        for field in dataclasses.fields(config)
        if "setting" in field.metadata
    }


def meanings(config: type) -> dict[str, str]:
    """Return what each attribute means, in one line, as the class's docstring says it."""
    listed = (inspect.getdoc(config) or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.*(?:\n      .*)*)", listed, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def unmet_need(setting: Setting, values: Mapping[str, Any]) -> str | None:
    """Say which other value a setting needs to have an effect, as in `loss`=bpr_max.

    values: all fields of its config by name. Returns None where every need is met.
    """
    for other, enabling in setting.needs.items():
        if enabling and values[other] not in enabling:
            return f"`{other}`={_either(enabling)}"
        if not enabling and not values[other]:
            return f"`{other}`"
    return None


def add_loss(name: str) -> None:
    """Let configs made from now on accept a loss by its name; `losses.register` calls it."""
    for names in (SAMPLED_LOSSES, _WITH_EXTRA_NEGATIVES, LOSSES):
        names.append(name)


@dataclasses.dataclass(frozen=True)
class _Checked:
    """A config that checks its values when it is made.

    Equal values are kept alike, as folder names are made of their texts: a whole number in a
    field of floats as a float, numpy's numbers as Python's, a list as a tuple. One that equals the
    default is kept as the default is written.
    """

    def __post_init__(self) -> None:
        """Raise InputError for a value of a wrong type, out of bounds or without effect."""
        given, values = dict(vars(self)), vars(self)
        for name, hint in _hints(type(self)).items():
            default = type(self).__dataclass_fields__[name].default
            taken = _taken(name, given[name], hint)
            object.__setattr__(self, name, default if taken == default else taken)
        for name, setting in settings(self).items():
            if problem := setting.problem(values[name]):
                raise errors.InputError(f"`{name}`={given[name]}: {problem}")
            is_default = values[name] == type(self).__dataclass_fields__[name].default
            if not is_default and (need := unmet_need(setting, values)):
                raise errors.InputError(
                    f"`{name}`={given[name]} has no effect without {need}: drop it, or give that"
                )


@dataclasses.dataclass(frozen=True)
class DataConfig(_Checked):
    """How a log is cut into sessions, filtered and split (Section 4.1). Defaults: VIDEO's.

    Attributes:
        session_gap_minutes: The idle time in minutes, above 0, after which a user's next event
            opens a new session. Given sessions (session_column) are not cut, and nor is a log
            without times.
        drop_types: The event types, separated by commas, that are dropped before all else.
        drop_repeats: Whether later events with the item and type of an earlier one in their session
            are dropped.
        min_support: The events that an item needs to be kept.
        min_session_events: The events that a session needs to be kept.
        min_user_sessions: The sessions that a user needs to be kept. With 0 also users stay who
            have only held-out events.
        max_user_sessions: The sessions from which on a user is dropped as too active.
        min_test_events: The events that a test session needs, after items without a training event
            are dropped from it.
        split: What is held out by the protocol, each user's last session for example (test), or,
            with that set aside, what the same protocol holds out next (validation), to tune on.
        protocol: What is held out: each user's last session, the paper's way (last_session), or
            each user's last event, as most papers on sequential recommendation do (leave_one_out),
            all events of the last days (global_time), or the part test of a log that brings its
            split (given), in a column or by the names of its files. But for last_session, the
            filters count training events alone.
        test_days: Of global_time: the days up to the log's last event that are held out. For
            validation it is as many days before.
        task: What is predicted: every held-out event that follows another one in its session
            (next_item), or of these each user's last one (last_item).
        train_on_validation: Whether the test split trains on what the validation split holds out.
            Most papers that leave one event out do not; the event is still known when the last
            one is predicted.
    """

    session_gap_minutes: float = setting(30, above=0, most=MAX_GAP_MINUTES)
    drop_types: tuple[str, ...] = setting(())
    drop_repeats: bool = setting(False)
    min_support: int = setting(10, least=1)
    min_session_events: int = setting(3, least=1)
    min_user_sessions: int = setting(5, least=0)
    max_user_sessions: int | None = setting(None, least=2)
    # A session of one event holds nothing to predict, so a test session needs two.
    min_test_events: int = setting(2, least=2)
    split: Split = setting("test", choices=get_args(Split))
    protocol: Protocol = setting("last_session", choices=get_args(Protocol))
    test_days: float = setting(7.0, above=0, most=100_000.0, needs={"protocol": ("global_time",)})
    task: Task = setting("next_item", choices=get_args(Task))
    train_on_validation: bool = setting(True)


@dataclasses.dataclass(frozen=True)
class ReadConfig(_Checked):
    """How the files of a log are read where they are not in the usual form.

    Attributes:
        separator: What separates the values of a text table: by default a comma, in .tsv a tab. One
            character or several; also 'tab' or 'space'.
        no_header: Whether the first line of a text table is an event; columns names its columns.
        columns: The names of the columns of a table without a header, in their order, as in
            user,_,item,time: user, item, time, session and type need no other flag, _ is not read.
        quote_char: What stands around the values of a text table that hold separators: " by
            default. Empty: quotes are characters like any other.
        encoding: The encoding of text, as 'latin-1'. UTF-8 and UTF-16 are recognised; inside zstd
            text is read in UTF-8 alone.
        null_values: The ids that mean that there is none, as in NA,NULL: their events are dropped.
            By default such words are refused; empty: they are ids like any other.
        time_format: The form of times, as in %d.%m.%Y %H:%M (strftime's); by default it is found
            out. %z reads offsets; names of zones are not read.
        any_year: Whether times before 1990 and after tomorrow are taken, from 1970 on.
        explode: What separates the items in one cell, each of which is an event: 'space', a text
            as in '|', or 'list' for lists of Parquet and JSON lines.
        on_bad_row: Whether a row that cannot be read ends the reading (error) or is dropped and
            counted (skip).
        descending: Whether the log is newest first, so that events of one time are in reverse.
    """

    separator: str | None = setting(None)
    no_header: bool = setting(False)
    columns: tuple[str, ...] = setting((), needs={"no_header": ()})
    quote_char: str = setting('"')
    encoding: str | None = setting(None)
    null_values: tuple[str, ...] | None = setting(None)
    time_format: str | None = setting(None)
    any_year: bool = setting(False)
    explode: str | None = setting(None)
    on_bad_row: OnBadRow = setting("error", choices=get_args(OnBadRow))
    descending: bool = setting(False)

    def __post_init__(self) -> None:
        """Raise InputError where a value is invalid or has no effect beside the others."""
        super().__post_init__()
        if self.no_header and not self.columns:
            raise errors.InputError("`no_header` needs `columns`, as in user,_,item,time")
        if self.separator == "" or self.explode == "":
            raise errors.InputError("`separator` and `explode` must not be empty")
        if len(self.quote_char.encode()) > 1:
            raise errors.InputError(f"`quote_char`={self.quote_char}: give one character or none")

    @classmethod
    def of(cls, changed: Mapping[str, Any]) -> ReadConfig:
        """Make the config that differs so from the default one, as meta.json holds it."""
        values: dict[str, Any] = {
            name: tuple(of) if isinstance(of, list) else of for name, of in changed.items()
        }
        return cls(**values)

    @property
    def changed(self) -> dict[str, Any]:
        """The settings that differ from their defaults."""
        fields = dataclasses.fields(self)
        values = {field.name: getattr(self, field.name) for field in fields}
        return {
            field.name: values[field.name]
            for field in fields
            if values[field.name] != field.default
        }


@dataclasses.dataclass(frozen=True)
class ModelConfig(_Checked):
    """What shapes a network; the four variants differ in nothing else but their layout.

    Attributes:
        hidden_units: Units H of each GRU: 100 in the paper's small networks, 500 in its large ones.
        layers: How many session GRUs are stacked.
        user_input: Which parts of GRU_ses see the user state in HRNN All: all three (full, Eq. 5),
            or the two gates but not the candidate (gates, the authors' code).
        leak: The state that GRU_ses keeps a part of at a session's first step: its initial state of
            Eq. 4 (equation), or the state that the user's previous session ended with (carried, the
            authors' code of June 2017, on which Table 2's large networks were tuned). Of several
            layers, that of the first.
        feed_last_item: Whether a session's last item is fed too, without a loss, so that GRU_usr
            sees it.
        embedding: The input of GRU_ses for an item: its one-hot vector (none), a learned embedding
            of H numbers (separate), or its row of the output matrix (tied).
        dropout_embedding: Probability to drop a number of an item's embedding in training.
        residual: Whether the embedding of the last item is added to GRU_ses' output, a residual
            connection (He et al., CVPR 2016). Not in the paper.
        dropout_user: Probability to drop a unit of GRU_usr's output in training.
        dropout_session: Probability to drop a unit of GRU_ses' output in training.
        recurrent_dropout: Whether a unit of GRU_ses that is dropped is dropped from the state that
            the next step goes on from too, as the paper's authors do, or only from what is scored
            and from what a layer above reads (Zaremba et al. 2014).
        dropout_init: Probability to drop a unit of a session's initial state (Eq. 4) in training.
        idle_gap: Whether the time since the user's previous event is an input too. Not in the
            paper.
        places: How many different items of a user's history are kept, the latest ones, for a
            mixture of two probabilities: to repeat one of them, or to explore the others. Its
            weights are learnt after the network's. 0: none. Not in the paper.
        neighbours: Of a network's mixture: how many items are kept that others had next to each
            item.
    """

    n_items: int  # V
    variant: str = "hrnn_init"  # one of NETWORKS
    hidden_units: int = setting(100, least=1, most=100_000, models=NETWORKS)
    layers: int = setting(1, least=1, most=100, models=NETWORKS)
    user_input: str = setting("full", choices=("full", "gates"), models=("hrnn_all",))
    leak: str = setting("equation", choices=("equation", "carried"), models=HRNNS)
    feed_last_item: bool = setting(False, models=HRNNS)
    embedding: str = setting("none", choices=("none", "separate", "tied"), models=NETWORKS)
    dropout_embedding: float = setting(
        0.0, least=0, most=0.99, models=NETWORKS, needs={"embedding": ("separate", "tied")}
    )
    residual: bool = setting(False, models=NETWORKS, needs={"embedding": ("separate", "tied")})
    dropout_user: float = setting(0.0, least=0, most=0.99, models=HRNNS)
    dropout_session: float = setting(0.0, least=0, most=0.99, models=NETWORKS)
    recurrent_dropout: bool = setting(True, models=NETWORKS)
    dropout_init: float = setting(0.0, least=0, most=0.99, models=HRNNS)
    idle_gap: bool = setting(False, models=NETWORKS)
    places: int = setting(0, least=0, models=NETWORKS)
    neighbours: int = setting(100, least=1, models=NETWORKS, needs={"places": ()})

    @property
    def hierarchical(self) -> bool:
        """Whether the network has a user-level GRU."""
        return self.variant in HRNNS

    @property
    def has_dropout(self) -> bool:
        """Whether any dropout probability is above zero."""
        of_layers = self.dropout_user, self.dropout_session, self.dropout_init
        return max(*of_layers, self.dropout_embedding) > 0

    def without_dropout(self) -> ModelConfig:
        """Return the config of the trained network, which drops nothing when it ranks."""
        dropouts = [name for name in vars(self) if name.startswith("dropout_")]
        return dataclasses.replace(self, recurrent_dropout=True, **dict.fromkeys(dropouts, 0.0))


@dataclasses.dataclass(frozen=True)
class TrainConfig(_Checked):
    """How a network is trained. Defaults: Table 2's HRNN Init (small).

    Attributes:
        loss: Training loss. All but full_softmax compare the target with the other targets of the
            mini-batch and with extra negatives. softmax is full_softmax for catalogues of up to
            20,000 items, and cross_entropy with log_q and mask_false_negatives for larger ones.
        activation: Activation of the output before the loss; by default tanh for top1, bpr and
            top1_max, elu for bpr_max, linear for cross_entropy.
        regularisation: Weight of bpr_max's penalty on the scores of negatives.
        extra_negatives: Items E drawn for each update as further negatives of all lanes.
        negative_alpha: Extra negatives are drawn by their training events to this power: 0 draws
            all items equally often.
        mask_false_negatives: Whether an item that is a lane's own target is left out of the lane's
            negatives.
        negative_hours: Only items on offer at the target's time are its negatives: from this many
            hours before their first training event to as many after their last. 0: all items are.
        log_q: Whether cross_entropy corrects for how often each item is expected as a candidate, so
            that it estimates the softmax over the catalogue.
        optimizer: The optimizer: adagrad (the paper's), adam or sgd.
        learning_rate: Learning rate of the optimizer.
        momentum: Classical momentum of adagrad and sgd.
        schedule: How the learning rate falls to 0.
        schedule_epochs: Epochs after which the learning rate is 0; all epochs of the run by
            default.
        batch_size: Users (or sessions of RNN) side by side: the lanes B.
        bptt_steps: Steps K that one update unrolls and back-propagates through.
        lane_groups: Groups G of the users, by a hash of each user's number. A group fills its own
            B / G of the lanes, so that the devices of a mesh, each with whole groups, need only
            their users' events.
        mean_over: The lanes that the loss of an update is the mean over: all lanes (batch), so that
            every pair of items weighs the same, or those with a target (valid), so that the few
            left in an epoch's last steps weigh more each.
        held_out_patience: Of a network with places: it is trained for as many epochs as are best
            for a network that is trained without each user's last training session, measured on
            these sessions; the search ends after this many epochs in a row without a new best one.
            0: all epochs are trained.
    """

    loss: str = setting("top1", choices=LOSSES, models=NETWORKS)
    activation: str | None = setting(
        None,
        choices=("elu", "linear", "relu", "tanh"),
        models=NETWORKS,
        needs={"loss": SAMPLED_LOSSES},
    )
    regularisation: float = setting(0.0, least=0, models=NETWORKS, needs={"loss": ("bpr_max",)})
    extra_negatives: int = setting(
        0, least=0, models=NETWORKS, needs={"loss": _WITH_EXTRA_NEGATIVES}
    )
    negative_alpha: float = setting(0.75, least=0, models=NETWORKS, needs={"extra_negatives": ()})
    mask_false_negatives: bool = setting(False, models=NETWORKS, needs={"loss": SAMPLED_LOSSES})
    negative_hours: float = setting(0.0, least=0, most=1000000.0, models=NETWORKS)
    log_q: bool = setting(False, models=NETWORKS, needs={"loss": ("cross_entropy",)})
    optimizer: str = setting("adagrad", choices=("adagrad", "adam", "sgd"), models=NETWORKS)
    learning_rate: float = setting(0.1, least=0, models=NETWORKS)
    momentum: float = setting(
        0.0, least=0, most=0.999, models=NETWORKS, needs={"optimizer": ("adagrad", "sgd")}
    )
    schedule: str = setting("constant", choices=("constant", "linear", "cosine"), models=NETWORKS)
    schedule_epochs: int = setting(
        0, least=0, models=NETWORKS, needs={"schedule": ("linear", "cosine")}
    )
    batch_size: int = setting(50, least=1, models=NETWORKS)
    bptt_steps: int = setting(1, least=1, models=NETWORKS)
    lane_groups: int = setting(1, least=1, models=NETWORKS)
    mean_over: str = setting("batch", choices=("batch", "valid"), models=NETWORKS)
    held_out_patience: int = setting(0, least=0, models=NETWORKS)
    chunk_steps: int = 256  # steps of one compiled call; the loss is read once a call

    def __post_init__(self) -> None:
        """Raise InputError where a value is out of bounds, or where a loss has no negatives."""
        super().__post_init__()
        if self.batch_size % self.lane_groups:
            raise errors.InputError(
                f"`batch_size`={self.batch_size} lanes are not a multiple of "
                f"`lane_groups`={self.lane_groups}: give a multiple"
            )
        if self.batch_size == 1 and self.loss in SAMPLED_LOSSES and not self.extra_negatives:
            raise errors.InputError(
                f"`batch_size`=1 leaves `loss`={self.loss} without negatives: give 2 or more, "
                "`extra_negatives`, or `loss`=full_softmax"
            )

    def for_epochs(self, epochs: int) -> TrainConfig:
        """Return the config with `schedule_epochs` filled in: by default all epochs of the run.

        Raises InputError where an epoch would be trained at a learning rate of 0.
        """
        if self.schedule == "constant":
            return self
        if not self.schedule_epochs:
            return dataclasses.replace(self, schedule_epochs=epochs)
        if epochs > self.schedule_epochs:
            raise errors.InputError(
                f"`epochs`={epochs}: by `schedule_epochs`={self.schedule_epochs} the learning rate "
                "is 0 after so many epochs; give no more, or a longer schedule"
            )
        return self

    def for_catalogue(self, n_items: int) -> TrainConfig:
        """Return the config with the loss that `softmax` stands for on so many items."""
        if self.loss != "softmax":
            return self
        if n_items > FULL_SOFTMAX_ITEMS:
            return dataclasses.replace(
                self, loss="cross_entropy", log_q=True, mask_false_negatives=True
            )
        alpha = type(self).negative_alpha
        return dataclasses.replace(
            self, loss="full_softmax", extra_negatives=0, negative_alpha=alpha
        )


@dataclasses.dataclass(frozen=True)
class EvaluationConfig(_Checked):
    """How test cases are ranked (Section 4.3).

    Attributes:
        cutoffs: Lengths N of the recommendation lists to measure.
        ties: Whether items with the target's score count as ranked above it (against the model) or
            below it (for the model).
        candidates: Rank the target among this many most supported items; among all by default.
        exclude_session_items: Leave the items that the session has so far out of the ranking. A
            target among them ranks last.
    """

    cutoffs: tuple[int, ...] = setting((5,))
    ties: Ties = setting("against", choices=get_args(Ties))
    candidates: int | None = setting(None, least=1)
    exclude_session_items: bool = setting(False)
    # The rest is of networks: how much is computed and held at a time.
    lanes: int = 256  # users whose histories are replayed side by side
    chunk_steps: int = 128  # steps of one compiled call
    score_values: int = 1 << 23  # scores held at a time; times 4 bytes
    cached_values: int = 1 << 18  # of these, ranked at a time: as many as a core's cache holds

    def of_all_items(self) -> EvaluationConfig:
        """Return the config that ranks among all items, ties against the model.

        How much is computed at a time stays as it is.
        """
        plain = {name: getattr(type(self), name) for name in settings(self)}
        return dataclasses.replace(self, **plain)


@dataclasses.dataclass(frozen=True)
class RecommenderConfig(_Checked):
    """How the states and events of live users are stored, and what their lists leave out.

    Attributes:
        cached_users: The number of states kept in memory; the others are read from disk.
        kept_events: The number of newest events stored for each user. A second delivery of an event
            and a repeated item of a session are recognised among these alone.
        unknown_items: Whether an event of an item that the model does not know is skipped or
            refused.
        exclude_session_items: Whether lists leave out the items that the open session has so far;
            by default where the recipe of the run drops repeats.
        index: How the best items are found: by the scores of all items, or by exact scores of the
            few that faiss scores highest roughly, for catalogues of hundreds of thousands. That is
            made ready at each start, in seconds, and needs the extra index.
    """

    cached_users: int = setting(100_000, least=1)
    kept_events: int = setting(1_000, least=1, most=2**31 - 1)
    unknown_items: UnknownItems = setting("skip", choices=get_args(UnknownItems))
    exclude_session_items: bool | None = setting(None)
    index: Index = setting("exact", choices=get_args(Index))


@dataclasses.dataclass(frozen=True)
class ItemKnnConfig(_Checked):
    """Item-KNN (Section 4.2).

    Attributes:
        neighbours: Of item_knn: how many similar items are kept of each item.
    """

    neighbours: int = setting(300, least=1, models=("item_knn",))


@dataclasses.dataclass(frozen=True)
class SessionKnnConfig(_Checked):
    """V-SKNN_BR; V-SKNN where boost and remind_weight are 0.

    Attributes:
        neighbours: Of vsknn and vsknn_br: how many similar sessions' items are scored.
        sample_size: Of vsknn and vsknn_br: the most recent sessions with a shared item that
            neighbours are chosen from.
        boost: By which part of itself the similarity of the user's own sessions grows.
        remind_weight: What is added at most for the items of the user's last sessions, as a part of
            the largest score.
    """

    neighbours: int = setting(100, least=1, models=("vsknn", "vsknn_br"))
    sample_size: int = setting(1000, least=1, models=("vsknn", "vsknn_br"))
    boost: float = setting(0.5, least=0, models=("vsknn_br",))
    remind_weight: float = setting(0.5, least=0, models=("vsknn_br",))
    remind_sessions: int = 6


@dataclasses.dataclass(frozen=True)
class StanConfig(_Checked):
    """U-VSTAN; VSTAN without extend, boost and reminders; STAN without lambda_ipw and lambda_idf.

    Attributes:
        neighbours: Of stan, vstan and u_vstan: how many similar sessions' items are scored.
        sample_size: Of stan, vstan and u_vstan: the most recent sessions with a shared item that
            neighbours are chosen from.
        lambda_spw: Steps back in the current session over which the weight of an item falls to 1/e.
        lambda_snh: Days over which the weight of a session falls to 1/e.
        lambda_inh: Steps from the last shared item, in a neighbour, over which the weight of its
            items falls to 1/e.
        lambda_ipw: Steps back in the current session, to the last item that a neighbour has, over
            which the weight of the neighbour falls to 1/e. 0: all weigh the same.
        lambda_idf: How much more an item scores for each factor of e by which it is rarer. 0: none.
        extend: Events of a current session, of which a shorter one gets the user's last ones before
            it.
        boost: By which part of itself the similarity of the user's own sessions grows.
        remind_weight: What is added at most for the items of the user's last sessions, as a part of
            the largest score.
    """

    neighbours: int = setting(500, least=1, models=STANS)
    sample_size: int = setting(5000, least=1, models=STANS)
    lambda_spw: float = setting(1.02, above=0, models=STANS)
    lambda_snh: float = setting(5.0, above=0, models=STANS)
    lambda_inh: float = setting(2.05, above=0, models=STANS)
    lambda_ipw: float = setting(1.02, least=0, models=("vstan", "u_vstan"))
    lambda_idf: float = setting(5.0, least=0, models=("vstan", "u_vstan"))
    extend: int = setting(5, least=0, models=("u_vstan",))
    boost: float = setting(0.5, least=0, models=("u_vstan",))
    remind_weight: float = setting(0.5, least=0, models=("u_vstan",))
    remind_sessions: int = 6


@dataclasses.dataclass(frozen=True)
class EaseConfig(_Checked):
    """EASE.

    Attributes:
        l2: Regularisation of the weights of ease.
        ease_rows: Whose items ease learns from and scores by: all that a user had (users), or those
            of a session (sessions).
    """

    l2: float = setting(500.0, above=0, models=("ease",))
    ease_rows: str = setting("users", choices=("users", "sessions"), models=("ease",))


@dataclasses.dataclass(frozen=True)
class PopularConfig(_Checked):
    """Popularity before the target.

    Attributes:
        window_hours: The hours before the target whose training events popular counts. 0: all.
    """

    window_hours: float = setting(24.0, least=0, models=("popular",))


@dataclasses.dataclass(frozen=True)
class CountsConfig(_Checked):
    """A mixture of counts: the user's past with weight 1, and three parts about the last item.

    Attributes:
        half_life: Events of a user after which the weight of an earlier event is half.
        markov_weight: Weight of what came right after the last item, of counts.
        rules_weight: Weight of the sequential rules from the last item, of counts.
        cosine_weight: Weight of the items most similar to the last one, of counts.
        neighbours: Of counts: how many similar items are kept of each item.
    """

    half_life: float = setting(20.0, above=0, models=("counts",))
    markov_weight: float = setting(0.1, least=0, models=("counts",))
    rules_weight: float = setting(0.1, least=0, models=("counts",))
    cosine_weight: float = setting(0.1, least=0, models=("counts",))
    neighbours: int = setting(100, least=1, models=("counts",))


@functools.cache
def _hints(config: type) -> dict[str, Any]:
    """Return the type of each field of a config."""
    return get_type_hints(config)


def _taken(name: str, value: Any, hint: Any) -> Any:
    """Return a setting's value in the type of its field. Raises InputError where it has none."""
    if isinstance(hint, types.UnionType):  # with None
        if value is None:
            return None
        hint = get_args(hint)[0]
    if get_origin(hint) is Literal:
        if value not in get_args(hint):  # None too, which stands for no choice in other settings
            raise errors.InputError(f"`{name}`={value}: give {_either(get_args(hint))}")
        return value
    if get_origin(hint) is tuple:
        kind = get_args(hint)[0]
        if not isinstance(value, list | tuple) or not all(_is_a(kind, each) for each in value):
            few = "['a', 'b']" if kind is str else "[5, 20]"
            raise errors.InputError(f"`{name}`={value!r}: give a list, as in {few}")
        return tuple(kind(each) for each in value)
    if not _is_a(hint, value):
        raise errors.InputError(f"`{name}`={value!r}: give {_KINDS[hint][1]}")
    return hint(value)


def _is_a(kind: type, value: Any) -> bool:
    """Say whether a value is of a field's type; True and False are no numbers."""
    return isinstance(value, _KINDS[kind][0]) and (kind is bool or not isinstance(value, bool))


def _either(values: Sequence[Any]) -> str:
    *others, last = map(str, values)
    return f"{', '.join(others)} or {last}" if others else last
