"""The models of the benchmark, and their training on random logs."""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from hrnn_jax.config import ModelConfig, TrainConfig, settings
from hrnn_jax.event_log import EventLog
from hrnn_jax.model import start_carry
from hrnn_jax.presets import HRNN_PLUS
from hrnn_jax.training.epoch import chunk_function, epoch_schedule, run_epoch
from hrnn_jax.training.lane_widths import Width, plan
from hrnn_jax.training.train import Rates, Running, TrainSetup, TrainState, init_state, make_setup
from hrnn_jax.training.user_batches import Schedule, pad

from ..training.epochs import stack
from . import floors
from .timing import seconds

N_ITEMS = 60_000
MAX_USER_STEPS = 150  # about the most events of one user: lanes may be empty for the last so many
SESSIONS, EVENTS = 9.8, 6.2  # means per user and per session in VIDEO (Table 1)


def random_log(
    rng: np.random.Generator,
    users: int,
    n_items: int,
    *,
    sessions: float = SESSIONS,
    events: float = EVENTS,
    tested: bool = False,
) -> EventLog:
    """Draw a log; only its shapes matter for what is measured.

    Args:
        rng: Source of random numbers.
        users: Number of users.
        n_items: Number of items V.
        sessions: Mean number of sessions of a user, each of whom has at least 5.
        events: Mean number of events of a session, each of which has at least 3.
        tested: Whether each user's last session is a test session.
    """
    count = 5 + rng.poisson(sessions - 5, users)
    length = 2 + rng.geometric(1 / (events - 2), count.sum())
    session = np.repeat(np.arange(len(length), dtype=np.int32), length)
    user = np.repeat(np.arange(users, dtype=np.int32), count)
    last = np.zeros(len(length), bool)
    last[np.cumsum(count) - 1] = tested
    return EventLog(
        user=user[session],
        session=session,
        item=(n_items * rng.random(len(session)) ** 3).astype(np.int32),  # some are popular
        time=60 * np.arange(len(session)),
        test=last[session],
        n_items=n_items,
    )


@dataclasses.dataclass(frozen=True)
class BenchmarkModel:
    """A model of Table 2 without its dropout, whose cost is a row of its own."""

    name: str
    model_config: ModelConfig
    train_config: TrainConfig

    def replace(self, *, batch_size: int | None = None, **settings: Any) -> BenchmarkModel:
        """Return this model with another batch size or other settings of its `ModelConfig`."""
        batch_size = batch_size or self.train_config.batch_size
        return BenchmarkModel(
            self.name,
            dataclasses.replace(self.model_config, **settings),
            dataclasses.replace(self.train_config, batch_size=batch_size),
        )

    def setup(self, log: EventLog) -> TrainSetup:
        """Return what its updates on a log share."""
        return make_setup(log, self.model_config, self.train_config)

    def init(self, seed: int = 0) -> TrainState:
        """Draw its weights."""
        return init_state(seed, self.model_config, self.train_config)

    def schedule(self, log: EventLog, seed: int = 0) -> Schedule:
        """Lay out its first epoch."""
        return epoch_schedule(log, self.model_config, self.train_config, seed=seed, epoch=0)

    @property
    def candidates(self) -> int:
        """The items that a step's lanes are scored against."""
        if self.train_config.loss == "full_softmax":
            return self.model_config.n_items
        return self.train_config.batch_size + self.train_config.extra_negatives

    @property
    def state_bytes(self) -> int:
        """The bytes of its weights and of their optimizer state."""
        leaves = jax.tree.leaves(jax.eval_shape(self.init))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def _of_table2(
    name: str, variant: str, units: int, batch_size: int, momentum: float
) -> BenchmarkModel:
    # user_input: as in Table 2's flag files of HRNN All.
    model = ModelConfig(N_ITEMS, variant, hidden_units=units, user_input="gates")
    return BenchmarkModel(name, model, TrainConfig(batch_size=batch_size, momentum=momentum))


def _plus(name: str, n_items: int) -> BenchmarkModel:
    def own(config: type) -> dict[str, Any]:
        return {key: value for key, value in HRNN_PLUS.items() if key in settings(config)}

    training = TrainConfig(**own(TrainConfig)).for_catalogue(n_items)
    return BenchmarkModel(name, ModelConfig(n_items, **own(ModelConfig)), training)


INIT_SMALL = _of_table2("HRNN Init small", "hrnn_init", 100, 50, 0.0)
INIT_LARGE = _of_table2("HRNN Init large", "hrnn_init", 500, 100, 0.1)
ALL_SMALL = _of_table2("HRNN All small", "hrnn_all", 100, 100, 0.2)
RNN_SMALL = _of_table2("RNN small", "rnn", 100, 100, 0.1)
CONCAT_SMALL = _of_table2("RNN Concat small", "rnn_concat", 100, 100, 0.1)
RNN_SAMPLED = BenchmarkModel(
    "RNN, tied, cross-entropy with 2,048 drawn negatives",
    ModelConfig(N_ITEMS, "rnn", embedding="tied"),
    TrainConfig(loss="cross_entropy", extra_negatives=2048, log_q=True),
)
# hrnn_plus on a catalogue that is too large for a softmax over all items, and on one that is not.
PLUS_SAMPLED = _plus("hrnn_plus, 2,048 drawn negatives", N_ITEMS)
PLUS_SOFTMAX = _plus("hrnn_plus, softmax over all items", 10_000)


class Training:
    """A model in training, whose epochs all have the same schedule."""

    def __init__(
        self, model: BenchmarkModel, setup: TrainSetup, schedules: Sequence[Schedule]
    ) -> None:
        """Draw the weights.

        Args:
            model: What is trained.
            setup: Of its training.
            schedules: The epoch of each seed; several seeds train side by side.
        """
        self.model, self.setup, self.schedules = model, setup, schedules
        self.state = stack([model.init(seed) for seed in range(len(schedules))])
        self.steps = len(schedules[0].event)
        self.events = sum(int(schedule.steps.valid.sum()) for schedule in schedules)

    @property
    def opening(self) -> float:
        """The lanes that open a session of a known user, and need Eq. 3 and 4: mean of a step."""
        return float(self.schedules[0].steps.opens.sum(axis=1).mean())

    @property
    def width(self) -> Width:
        """The width of most steps."""
        config = self.model.train_config
        updates = config.chunk_steps // config.bptt_steps
        counts = collections.Counter[Width]()
        for parts in plan(self.schedules, self.setup.widths, config.bptt_steps, updates):
            for part in parts:
                counts[part.width] += part.end - part.begin
        return max(counts, key=lambda width: counts[width])

    def epoch(self) -> float:
        """Train the epoch once more; return its seconds."""
        started = time.perf_counter()
        self.state, _ = run_epoch(
            self.state,
            self.schedules,
            self.setup,
            seeds=range(len(self.schedules)),
            epoch=0,
        )
        jax.block_until_ready(self.state)
        return time.perf_counter() - started

    def step(self) -> float:
        """Train the epoch once more; return the seconds of a step."""
        return self.epoch() / self.steps

    def floor(self) -> Callable[[], float]:
        """Return what computes an epoch's matrix products and returns the seconds of a step's."""
        products = floors.step(
            self.model.model_config,
            batch=self.model.train_config.batch_size,
            opening=round(self.opening),
            steps=self.steps,
            candidates=self.model.candidates,
        )
        return lambda: seconds(products) / self.steps

    def compiled(self) -> jax.stages.Compiled:
        """Compile the program that trains most of one seed's steps."""
        model_config, config = self.model.model_config, self.model.train_config
        width, length = self.width, config.chunk_steps
        steps = pad(self.schedules[0].steps.window(0, length), length, config.batch_size)
        running = Running(
            self.state,
            start_carry((config.batch_size,), model_config),
            np.zeros(model_config.n_items, np.int32),
        )
        function: Any = chunk_function(model_config, config, width, stacked=False)
        place, span = np.zeros(4, np.uint32), np.array([0, length], np.int32)
        rates = Rates.of(model_config, config)
        sampler = self.setup.sampler
        return function.lower(running, steps, place, span, rates, sampler).compile()


def users_of(batch: int, steps: int) -> int:
    """Return how many users of `random_log` fill as many lanes for so many steps."""
    return max(batch, round(batch * (steps + MAX_USER_STEPS) / (SESSIONS * (EVENTS - 1))))


def train_steps(model: BenchmarkModel, steps: int, seeds: int = 1) -> Training:
    """Draw a log, lay out an epoch in which all lanes have a user, and begin to train.

    Args:
        model: What is trained.
        steps: Steps of an epoch of HRNN Init small; larger models have fewer, of equal work.
        seeds: Number of seeds that train side by side.
    """
    batch, chunk = model.train_config.batch_size, model.train_config.chunk_steps
    # Of a step; 1 of HRNN Init small.
    work = batch * model.model_config.hidden_units / (50 * 100)
    work *= 1 + (model.candidates - batch) / 500
    # Whole chunks: the padding of a last one would count as steps.
    steps = max(1, round(steps / work / chunk)) * chunk
    log = random_log(np.random.default_rng(0), users_of(batch, steps), model.model_config.n_items)
    schedules = [model.schedule(log, seed) for seed in range(seeds)]
    assert min(len(schedule.event) for schedule in schedules) >= steps
    cut = [Schedule(s.steps.window(0, steps), s.event[:steps]) for s in schedules]
    return Training(model, model.setup(log), cut)
