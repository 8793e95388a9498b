"""Rows of the benchmark about training steps, measured in this process."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from hrnn_jax.config import ModelConfig, TrainConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.model import start_carry
from hrnn_jax.train import (
    SLAB_CHUNKS,
    TrainState,
    compiled_chunk,
    epoch_schedule,
    init_state,
    run_epoch,
)
from hrnn_jax.user_batches import Schedule

from . import floors
from .record import Row
from .timing import Settings, seconds

N_ITEMS = 60_000
MANY_ITEMS, FEW_ITEMS = 380_000, 1_000
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

    @property
    def size(self) -> int:
        """Lanes times units, in proportion to which a step's work grows."""
        return self.train_config.batch_size * self.model_config.hidden_units

    def init(self, seed: int = 0) -> TrainState:
        """Draw its weights."""
        return init_state(seed, self.model_config, self.train_config)

    def schedule(self, log: EventLog, seed: int = 0) -> Schedule:
        """Lay out its first epoch."""
        return epoch_schedule(log, self.model_config, self.train_config, seed=seed, epoch=0)

    @property
    def state_bytes(self) -> int:
        """The bytes of its weights and of their optimizer state."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(jax.eval_shape(self.init)))


def _of_table2(
    name: str, variant: str, units: int, batch_size: int, momentum: float
) -> BenchmarkModel:
    # user_input: as in Table 2's flag files of HRNN All.
    model = ModelConfig(N_ITEMS, variant, hidden_units=units, user_input="gates")
    return BenchmarkModel(name, model, TrainConfig(batch_size=batch_size, momentum=momentum))


INIT_SMALL = _of_table2("HRNN Init small", "hrnn_init", 100, 50, 0.0)
INIT_LARGE = _of_table2("HRNN Init large", "hrnn_init", 500, 100, 0.1)
ALL_SMALL = _of_table2("HRNN All small", "hrnn_all", 100, 100, 0.2)
RNN_SMALL = _of_table2("RNN small", "rnn", 100, 100, 0.1)
CONCAT_SMALL = _of_table2("RNN Concat small", "rnn_concat", 100, 100, 0.1)


def train_epoch(
    model: BenchmarkModel, state: TrainState, schedules: list[Schedule], epoch: int = 0
) -> TrainState:
    """Train an epoch, of one seed or of several side by side, and wait for its end."""
    state, _ = run_epoch(
        state,
        schedules,
        seeds=range(len(schedules)),
        epoch=epoch,
        model_config=model.model_config,
        config=model.train_config,
    )
    return jax.block_until_ready(state)


class Training:
    """A model in training, whose epochs all have the same schedule."""

    def __init__(self, model: BenchmarkModel, steps: int, seeds: int = 1) -> None:
        """Draw a log and lay out an epoch.

        Args:
            model: What is trained.
            steps: Steps of an epoch of HRNN Init small; larger models have fewer, of equal work.
            seeds: Number of seeds that train side by side.
        """
        self.model = model
        batch = model.train_config.batch_size
        chunk = model.train_config.chunk_steps
        # Whole chunks: the padding of a last one would count as steps.
        self.steps = max(1, round(steps * INIT_SMALL.size / model.size / chunk)) * chunk
        inputs = batch * (self.steps + MAX_USER_STEPS)
        users = max(batch, round(inputs / (SESSIONS * (EVENTS - 1))))
        log = random_log(np.random.default_rng(0), users, model.model_config.n_items)
        self.schedules = [self._first_steps(model.schedule(log, seed)) for seed in range(seeds)]
        states = [model.init(seed) for seed in range(seeds)]
        self.state = states[0]
        if seeds > 1:
            self.state = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
        self.events = sum(int(schedule.steps.valid.sum()) for schedule in self.schedules)
        self.epochs = 0

    def _first_steps(self, schedule: Schedule) -> Schedule:
        """Keep the steps in which all lanes have a user."""
        assert len(schedule.event) >= self.steps
        return Schedule(schedule.steps.window(0, self.steps), schedule.event[: self.steps])

    @property
    def opening(self) -> int:
        """W: the lanes for which a step computes Eq. 3 and 4."""
        return max(schedule.steps.opening.shape[1] for schedule in self.schedules)

    @property
    def mean_opening(self) -> float:
        """The mean number of lanes that open a session of a known user in a step."""
        opens = [s.steps.session_start & ~s.steps.user_start for s in self.schedules]
        return float(np.mean([mask.sum(axis=1).mean() for mask in opens]))

    def epoch(self) -> float:
        """Train one more epoch; return the seconds of a step."""

        def run() -> None:
            self.state = train_epoch(self.model, self.state, self.schedules, self.epochs)

        self.epochs += 1
        return seconds(run) / self.steps

    def floor(self) -> Callable[[], float]:
        """Return what computes an epoch's matrix products and returns the seconds of a step's."""
        batch = self.model.train_config.batch_size
        config = self.model.model_config
        products = floors.step(config, batch=batch, opening=self.opening, steps=self.steps)
        return lambda: seconds(products) / self.steps

    def compiled(self) -> jax.stages.Compiled:
        """Compile the program that trains a chunk of one seed's steps."""
        config = self.model.train_config
        n_steps = SLAB_CHUNKS * config.chunk_steps
        slab = jax.tree.map(
            lambda array: jax.ShapeDtypeStruct((n_steps, *array.shape[1:]), array.dtype),
            self.schedules[0].steps,
        )
        carry = start_carry((config.batch_size,), self.model.model_config)
        place = jax.ShapeDtypeStruct((4,), np.uint32)
        program = compiled_chunk(self.model.model_config, config, stacked=False)
        return program.lower(jax.eval_shape(self.model.init), carry, slab, place).compile()


def step(settings: Settings, model: BenchmarkModel, title: str, limit: float) -> Mapping[str, Row]:
    """Measure a step next to its own matrix products."""
    training = Training(model, settings.steps)
    measured, floor = settings.turns(training.epoch, training.floor())
    rate = training.events / training.steps / statistics.median(measured)
    notes = [f"{rate:,.0f} events/s"]
    if training.opening:
        notes.append(
            f"GRU_usr runs for {training.opening} lanes, "
            f"{training.mean_opening:.1f} of which open a session in the mean"
        )
    else:
        notes.append("GRU_usr runs for no lane")
    config, batch = model.model_config, model.train_config.batch_size
    what = f"{title} (batch {batch}, {config.hidden_units} units, {config.n_items:,} items)"
    return {"": Row(what, measured, floor, "its matrix products", limit, notes=notes)}


def dropout(settings: Settings) -> Mapping[str, Row]:
    """Measure a step with dropout next to one without."""
    with_dropout = INIT_SMALL.replace(dropout_user=0.1, dropout_session=0.1, dropout_init=0.2)
    models = [Training(model, settings.steps) for model in (with_dropout, INIT_SMALL)]
    measured, floor = settings.turns(*(model.epoch for model in models))
    what = "dropout 0.1 / 0.1 / 0.2, HRNN Init small"
    return {"": Row(what, measured, floor, "the same step without", 1.1)}


def catalogue(settings: Settings) -> Mapping[str, Row]:
    """Measure a step with many items next to one with few."""
    models = [
        Training(INIT_SMALL.replace(n_items=n), settings.steps) for n in (MANY_ITEMS, FEW_ITEMS)
    ]
    measured, floor = settings.turns(*(model.epoch for model in models))
    what = f"{MANY_ITEMS:,} items, HRNN Init small"
    return {"": Row(what, measured, floor, f"the same step with {FEW_ITEMS:,}", 1.1)}


def memory(settings: Settings) -> Mapping[str, Row]:
    """Compare all memory of the compiled chunk with that of its inputs and results."""
    held = INIT_SMALL.state_bytes
    program = Training(INIT_SMALL, settings.steps).compiled()
    analysis = program.memory_analysis()
    assert analysis is not None
    temporary = analysis.temp_size_in_bytes
    what = f"memory of the compiled epoch, HRNN Init small, {N_ITEMS:,} items"
    notes = [f"{temporary / 1e6:.2f} MB are temporary"]
    name = "tables + optimizer state"
    return {"": Row(what, [held + temporary], [held], name, 1.02, unit="B", notes=notes)}


def seeds_at_once(settings: Settings) -> Mapping[str, Row]:
    """Measure two seeds in one compiled program next to the same two in turn."""
    together = Training(INIT_SMALL, settings.steps, seeds=2)
    alone = Training(INIT_SMALL, settings.steps)
    measured, floor = settings.turns(together.epoch, lambda: alone.epoch() + alone.epoch())
    what = "--seeds_at_once=2, a step of both"
    return {"": Row(what, measured, floor, "two steps, one seed each")}


def gpu(settings: Settings) -> Mapping[str, Row]:
    """Measure events/s of one seed and of ten, where there is a GPU."""
    rows = {}
    for seeds, name in ((1, "1 seed"), (10, "10 seeds, vmapped")):
        rates = []
        if jax.default_backend() == "gpu":
            training = Training(INIT_SMALL, settings.steps, seeds=seeds)
            [measured] = settings.turns(training.epoch)
            rates = [training.events / training.steps / duration for duration in measured]
        rows[f"{seeds}"] = Row(f"GPU: HRNN Init small, {name}", rates, unit="events/s")
    return rows
