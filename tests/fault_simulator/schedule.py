"""The steps of a run, drawn from its seed."""

from __future__ import annotations

import functools
import pathlib
import tempfile
from collections.abc import Callable, Mapping

from tests.fault_simulator import clients, database, operations
from tests.fault_simulator.oracle import GAP
from tests.fault_simulator.run import Run

STEPS = 25
WEIGHTS: dict[Callable[[Run], None], float] = {
    clients.deliver: 30,
    clients.read: 5,
    clients.forget: 4,
    clients.forget_idle: 2,
    operations.restart: 4,
    operations.fill_disk: 2,
    operations.fail_sync: 2,
    operations.jump_clock: 1,
    operations.flip: 3,
    operations.lose_file: 1,
    operations.keep_copy: 1,
    operations.restore: 1,
    operations.other_weights: 2,
    operations.export: 0.5,
    operations.import_: 0.5,
    operations.reload: 2,
}


class RunError(Exception):
    """A fault, with the seed and the steps that led to it."""

    def __init__(self, seed: int, steps: list[str], error: Exception):
        """Say the steps and the error in lines."""
        last = f"seed {seed}: {type(error).__name__}: {error}"
        super().__init__("\n".join([*steps, last]))


# On a database: nothing of a file.
ON_DATABASE: dict[Callable[[Run], None], float] = {
    **{
        step: WEIGHTS[step]
        for step in (
            clients.deliver,
            clients.read,
            clients.forget,
            clients.forget_idle,
            operations.restart,
            operations.fill_disk,
            operations.jump_clock,
            operations.other_weights,
            operations.import_,
        )
    },
    database.export: WEIGHTS[operations.export],
    database.refuse_reload: 0.5,
    database.lose_connection: 6,
    database.damage_row: 3,
}


def run_seed(seed: int, url: str | None = None) -> Run:
    """Run one seed; return the run, with its counts.

    Args:
        seed: of all that happens.
        url: of an empty database; by default the states are in a file.

    Raises:
        RunError: says the seed and its steps.
    """
    memory = pathlib.Path("/dev/shm")  # no time is lost there
    parent = memory if memory.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="fault_simulator_", dir=parent) as folder:
        make = functools.partial(database.DatabaseProcess, url) if url else None
        weights = ON_DATABASE if url else WEIGHTS
        run = Run(seed, pathlib.Path(folder), make)
        try:
            with run.process.simulated():
                try:
                    if seed % 8 == 6:  # some are killed while they make the file
                        run.process.disk.kill_after = seed // 8 % 40
                    run.start([run.process.oracle])
                    for _ in range(STEPS):
                        _step(run, weights)
                    operations.restart(run)
                finally:
                    run.process.stop()
        except Exception as error:
            raise RunError(seed, run.steps, error) from error
    return run


def _step(run: Run, weights: Mapping[Callable[[Run], None], float]) -> None:
    """Do one of the steps, with a chance of a kill in it."""
    [step] = run.draw.choices(list(weights), list(weights.values()))
    run.process.turn()
    run.process.clock.sleep(run.draw.choice([0.25, 3.0, 2 * GAP]))
    run.arm(0.2)
    run.counts[step.__name__] += 1
    run.say(step.__name__)
    step(run)
    run.process.disk.kill_after = None
    if run.draw.random() < 0.3:
        run.process.check()


def summary(n_seeds: int, counts: Mapping[str, int]) -> str:
    """Return a line that says what was run without a fault, as far as it has happened."""
    kill_points = [name for name in counts if name.startswith("kill at")]
    steps = {step.__name__ for step in (*WEIGHTS, *ON_DATABASE)}
    parts = (
        (sum(counts[name] for name in steps), "steps"),
        (counts["acknowledged events"], "events acknowledged"),
        (counts["kill"], "kills"),
        (counts["power loss"], "losses of power"),
        (len(kill_points), "kinds of operations at which they came"),
        (counts["lost connection"], "lost connections"),
        (counts["unanswered commits"], "commits without an answer"),
        (counts["full"], "times no room"),
        (counts["failed sync"], "failed syncs"),
        (counts["flip"], "times flipped bits"),
        (counts["damage_row"], "damaged rows"),
        (counts["lose_file"], "files lost while running"),
        (counts["restore"], "copies put back"),
        (counts["forget"], "people forgotten"),
        (counts["other_weights"], "other weights"),
        (counts["swaps"], "reloads to their end"),
        (counts["killed reloads"], "killed reloads"),
        (sum(n for name, n in counts.items() if name.endswith("in a reload")), "calls in reloads"),
        (counts["import_"], "imports"),
    )
    happened = ", ".join(f"{n:,} {what}" for n, what in parts if n)
    return f"{n_seeds:,} seed{'s' * (n_seeds > 1)} without a fault, {happened}"
