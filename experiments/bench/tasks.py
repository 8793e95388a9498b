"""What the benchmark measures, by name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from . import (
    commands,
    evaluation,
    gpu,
    record,
    scaling,
    steps,
    timing,
)
from .benchmark_model import (
    ALL_SMALL,
    CONCAT_SMALL,
    INIT_LARGE,
    INIT_SMALL,
    PLUS_SAMPLED,
    PLUS_SOFTMAX,
    RNN_SAMPLED,
    RNN_SMALL,
)
from .mesh import rows as mesh
from .service import catalogue_index, longest_wait, steady_load, throughput

MODELS = {  # model, title of the row about its step, target of the step's ratio to its floor
    "": (INIT_SMALL, "training step, HRNN Init small", 1.6),
    "_large": (INIT_LARGE, INIT_LARGE.name, 1.4),
    "_all": (ALL_SMALL, ALL_SMALL.name, 1.6),
    "_rnn": (RNN_SMALL, RNN_SMALL.name, 1.6),
    "_rnn_concat": (CONCAT_SMALL, CONCAT_SMALL.name, 1.6),
    "_sampled": (RNN_SAMPLED, RNN_SAMPLED.name, 2.0),
    "_plus": (PLUS_SAMPLED, PLUS_SAMPLED.name, 2.5),
    "_softmax": (PLUS_SOFTMAX, PLUS_SOFTMAX.name, 2.5),
}
Task = Callable[[timing.Settings], Mapping[str, record.Row | record.Sweep]]
TASKS: dict[str, Task] = {
    **{
        f"step{suffix}": functools.partial(steps.step, model=model, title=title, limit=limit)
        for suffix, (model, title, limit) in MODELS.items()
    },
    **{
        f"anatomy{suffix}": functools.partial(steps.shares, model=model)
        for suffix, (model, _, _) in MODELS.items()
    },
    "dropout": steps.dropout,
    "catalogue": steps.catalogue,
    "memory": steps.memory,
    "memory_run": commands.whole_run,
    "mesh": mesh.training,
    "mesh_memory": mesh.memory,
    "evaluation": evaluation.evaluate,
    "preprocessing": commands.preprocessing,
    "schedule": evaluation.schedule,
    "start": commands.start,
    "seeds": commands.seeds,
    "seeds_at_once": steps.seeds_at_once,
    "users": commands.users,
    "serving": steady_load.serving,
    "throughput": throughput.throughput,
    "index": catalogue_index.index,
    "longest_wait": longest_wait.longest_waits,
    "gpu": gpu.measure_all,
    "scaling_items": scaling.items,
    "scaling_batch": scaling.batch,
    "scaling_units": scaling.units,
    "scaling_events": scaling.events,
}
