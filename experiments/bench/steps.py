"""Rows of the benchmark on training steps, in this process."""

from __future__ import annotations

import dataclasses
import functools
import statistics
from collections.abc import Callable

import jax
import numpy as np

from hrnn_jax import model
from hrnn_jax import train as train_lib
from hrnn_jax.config import ModelConfig, TrainConfig
from hrnn_jax.event_log import EventLog
from hrnn_jax.user_batches import Schedule, Steps

from . import floors, measures
from .measures import Found, Row, Settings

N_ITEMS = 60_000
MANY_ITEMS, FEW_ITEMS = 380_000, 1_000
LONGEST = 150  # steps; about the most that a user has, and so how early lanes may run dry
SESSIONS, EVENTS = 9.8, 6.2  # of a user, and of a session: the VIDEO set's means (Table 1)


def random_log(
    rng: np.random.Generator,
    users: int,
    n_items: int,
    *,
    sessions: float = SESSIONS,
    events: float = EVENTS,
    tested: bool = False,
) -> EventLog:
    """Draw users with so many sessions of so many events in the mean, at least 5 and 3.

    What is measured depends on shapes only. tested: each user's last session is held out.
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
class Network:
    """A row of Table 2, without its dropout, which has a row of the benchmark to itself."""

    variant: str
    units: int
    batch: int
    momentum: float
    n_items: int = N_ITEMS
    dropout: tuple[float, float, float] = (0.0, 0.0, 0.0)  # user, session, init

    @property
    def model_config(self) -> ModelConfig:
        user, session, init = self.dropout
        return ModelConfig(
            n_items=self.n_items,
            variant=self.variant,
            hidden_units=self.units,
            user_input="gates",  # what HRNN All takes in Table 2's flag files
            dropout_user=user,
            dropout_session=session,
            dropout_init=init,
        )

    @property
    def config(self) -> TrainConfig:
        return TrainConfig(batch_size=self.batch, momentum=self.momentum)


INIT_SMALL = Network("hrnn_init", 100, 50, 0.0)
INIT_LARGE = Network("hrnn_init", 500, 100, 0.1)
ALL_SMALL = Network("hrnn_all", 100, 100, 0.2)
RNN_SMALL = Network("rnn", 100, 100, 0.1)
CONCAT_SMALL = Network("rnn_concat", 100, 100, 0.1)


class Subject:
    """A network in training; `epoch` trains one epoch more, on one and the same schedule."""

    def __init__(self, network: Network, steps: int, seeds: int = 1) -> None:
        """Lay out about as many events and units as `steps` steps of HRNN Init small have."""
        self.network, self.seeds = network, range(seeds)
        size = network.batch * network.units / (INIT_SMALL.batch * INIT_SMALL.units)
        self.steps = _whole_chunks(steps / size, network.config)
        lanes_ = network.batch * (self.steps + LONGEST)
        users = max(network.batch, round(lanes_ / (SESSIONS * (EVENTS - 1))))
        log = random_log(np.random.default_rng(0), users, network.n_items)
        self.schedules = [
            _cut(
                train_lib.epoch_schedule(
                    log, network.model_config, network.config, seed=seed, epoch=0
                ),
                self.steps,
            )
            for seed in self.seeds
        ]
        states = [
            train_lib.init_state(seed, network.model_config, network.config) for seed in self.seeds
        ]
        self.state = states[0]
        if seeds > 1:
            self.state = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
        self.events = sum(int(schedule.steps.valid.sum()) for schedule in self.schedules)
        self.trained = 0

    @property
    def opening(self) -> int:
        """The lanes W for which a step computes Eq. 3 and 4."""
        return max(schedule.steps.opening.shape[1] for schedule in self.schedules)

    @property
    def opens(self) -> float:
        """The lanes that open a session of a known user, of a mean step."""
        steps = [schedule.steps for schedule in self.schedules]
        return float(np.mean([(s.session_start & ~s.user_start).sum(axis=1).mean() for s in steps]))

    def epoch(self) -> float:
        """Train one epoch; return the seconds of a step."""

        def train() -> None:
            self.state, _ = train_lib.run_epoch(
                self.state,
                self.schedules,
                seeds=self.seeds,
                epoch=self.trained,
                model_config=self.network.model_config,
                config=self.network.config,
            )
            jax.block_until_ready(self.state)

        self.trained += 1
        return measures.seconds(train) / self.steps

    def floor(self) -> Callable[[], float]:
        """Return what makes an epoch's matrix products and returns the seconds of a step's."""
        products = floors.step(
            self.network.model_config,
            batch=self.network.batch,
            opening=self.opening,
            steps=self.steps,
        )
        return lambda: measures.seconds(products) / self.steps


def _whole_chunks(steps: float, config: TrainConfig) -> int:
    """Round to whole chunks, one at least: what pads the last would count as steps."""
    return max(1, round(steps / config.chunk_steps)) * config.chunk_steps


def _cut(schedule: Schedule, steps: int) -> Schedule:
    """Keep the first steps, before lanes run dry."""
    kept = schedule.steps.window(0, steps)
    assert len(kept.input) == steps
    return Schedule(kept, schedule.event[:steps])


def products(settings: Settings, network: Network, title: str, limit: float) -> Found:
    """Measure a step against its own matrix products."""
    subject = Subject(network, settings.steps)
    found, floor = measures.take_turns(
        [subject.epoch, subject.floor()], repeats=settings.repeats, say=settings.say
    )
    rate = subject.events / subject.steps / statistics.median(found)
    notes = [f"{rate:,.0f} events/s"]
    if subject.opening:
        notes.append(
            f"GRU_usr runs for {subject.opening} lanes, "
            f"{subject.opens:.1f} of which open a session in the mean"
        )
    else:
        notes.append("GRU_usr runs for no lane")
    size = f"batch {network.batch}, {network.units} units, {network.n_items:,} items"
    row = Row(f"{title} ({size})", "s", found, floor, "its matrix products", limit, notes=notes)
    return {"": row}


def against(
    settings: Settings, subject: Network, floor: Network, what: str, name: str, limit: float
) -> Found:
    """Measure the step of a network against that of another."""
    both = [Subject(network, settings.steps).epoch for network in (subject, floor)]
    found, least = measures.take_turns(both, repeats=settings.repeats, say=settings.say)
    return {"": Row(what, "s", found, least, name, limit)}


def dropout(settings: Settings) -> Found:
    dropping = dataclasses.replace(INIT_SMALL, dropout=(0.1, 0.1, 0.2))
    what = "dropout 0.1 / 0.1 / 0.2, HRNN Init small"
    return against(settings, dropping, INIT_SMALL, what, "the same step without", 1.1)


def catalogue(settings: Settings) -> Found:
    few, many = (dataclasses.replace(INIT_SMALL, n_items=n) for n in (FEW_ITEMS, MANY_ITEMS))
    what, name = f"{MANY_ITEMS:,} items, HRNN Init small", f"the same step with {FEW_ITEMS:,}"
    return against(settings, many, few, what, name, 1.1)


def memory(settings: Settings) -> Found:
    """Compare what the compiled chunk takes in all with what must be held."""
    held = state_bytes(INIT_SMALL)
    temporary = temporary_bytes(INIT_SMALL, Subject(INIT_SMALL, settings.steps).opening)
    what = f"memory of the compiled epoch, HRNN Init small, {N_ITEMS:,} items"
    notes = [f"{temporary / 1e6:.2f} MB are temporary"]
    name = "tables + optimizer state"
    return {"": Row(what, "B", [held + temporary], [held], name, 1.02, notes=notes)}


def state_bytes(network: Network) -> int:
    """Return the bytes of the tables with their optimizer state."""
    leaves = jax.tree.leaves(_state(network))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def temporary_bytes(network: Network, opening: int) -> int:
    """Return what the compiled chunk of steps takes beside what goes in and comes out."""
    return compiled_chunk(network, opening).memory_analysis().temp_size_in_bytes


def compiled_chunk(network: Network, opening: int) -> jax.stages.Compiled:
    """Compile the program that trains a chunk of steps, with `opening` lanes W."""
    model_config, config = network.model_config, network.config
    n_steps = train_lib.SLAB_CHUNKS * config.chunk_steps
    lane = jax.ShapeDtypeStruct((n_steps, config.batch_size), np.int32)
    mask = jax.ShapeDtypeStruct(lane.shape, bool)
    opens = jax.ShapeDtypeStruct((n_steps, opening), np.int32)
    gap = jax.ShapeDtypeStruct(lane.shape, np.int8)
    steps = Steps(lane, lane, mask, mask, mask, lane, gap, opens)
    place = jax.ShapeDtypeStruct((4,), np.uint32)
    carry = model.start_carry((config.batch_size,), model_config)
    train = train_lib.compiled_chunk(model_config, config, stacked=False)
    return train.lower(_state(network), carry, steps, place).compile()


def _state(network: Network):
    init = functools.partial(train_lib.init_state, 0, network.model_config, network.config)
    return jax.eval_shape(init)


def seeds_at_once(settings: Settings) -> Found:
    """Measure two seeds in one compiled program against the same two in turn."""
    together = Subject(INIT_SMALL, settings.steps, seeds=2)
    alone = Subject(INIT_SMALL, settings.steps)
    both, each = measures.take_turns(
        [together.epoch, lambda: alone.epoch() + alone.epoch()],
        repeats=settings.repeats,
        say=settings.say,
    )
    return {
        "": Row("--seeds_at_once=2, a step of both", "s", both, each, "two steps, one seed each")
    }


def gpu(settings: Settings) -> Found:
    """Measure events/s of one seed and of ten, where there is a GPU."""
    found = {}
    for seeds in (1, 10):
        what = f"GPU: HRNN Init small, {seeds} seed{'s, vmapped' if seeds > 1 else ''}"
        row = Row(what, "events/s")
        if jax.default_backend() == "gpu":
            subject = Subject(INIT_SMALL, settings.steps, seeds=seeds)
            [taken] = measures.take_turns(
                [subject.epoch], repeats=settings.repeats, say=settings.say
            )
            rates = [subject.events / subject.steps / seconds for seconds in taken]
            row = dataclasses.replace(row, subject=rates)
        found[f"{seeds}"] = row
    return found
