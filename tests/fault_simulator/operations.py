"""What the disk, the clock and the operator do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Any

from hrnn_jax import errors
from hrnn_jax.live.events import Event
from tests.fault_simulator.clients import USERS, deliver, forget, forget_idle, read
from tests.fault_simulator.disk import Killed
from tests.fault_simulator.oracle import ITEMS, Oracle
from tests.fault_simulator.process import UNFINISHED, FaultError
from tests.fault_simulator.run import Run


def restart(run: Run) -> None:
    """End the process and start another one."""
    run.end()
    run.start([run.process.oracle, *run.process.maybe])


def fill_disk(run: Run) -> None:
    """Leave little room on the disk, or make room."""
    disk = run.process.disk
    disk.room = run.draw.randrange(6000) if disk.room is None else None


def fail_sync(run: Run) -> None:
    """Let the next sync of a file fail."""
    run.process.disk.failing_syncs = 1
    deliver(run)


def jump_clock(run: Run) -> None:
    """Set the clock ahead for a moment, or back."""
    clock = run.process.clock
    offset = clock.wall - clock.steady
    clock.wall += run.draw.choice([86_400.0, -offset + 1_700_000_000 - 1000.0])


def flip(run: Run) -> None:
    """Flip bits of a file while the process is down."""
    process, draw = run.process, run.draw
    run.end()
    process.disk.write_back()
    process.disk.room = None
    if process.maybe:  # one kind of doubt at a time
        run.start([process.oracle, *process.maybe])
        return
    whole = run.copy()
    path = process.wal if whole.wal and draw.random() < 0.3 else process.path
    if path.stat().st_size:
        places = [process.disk.flip(path) for _ in range(draw.choice([1, 1, 3]))]
        run.say(f"  {path.name} at {places}")
    weights = draw.choice([None, None, None, 3 - process.oracle.weights])
    # SQLite takes a damaged -wal for one that ends there.
    candidates = process.since if path == process.wal else [process.oracle]
    run.start(candidates, weights=weights, damage=whole)


def lose_file(run: Run) -> None:
    """Remove, replace or cut a file while the process runs: nothing is acknowledged then."""
    process, draw = run.process, run.draw
    if process.maybe:
        return
    process.disk.kill_after = None
    process.disk.room = None
    process.disk.write_back()
    path = draw.choice([path for path in (process.path, process.wal) if path.exists()])
    content = path.read_bytes()
    how = draw.choice(["remove", "replace", "cut"])
    whole = run.copy()
    if how == "cut" and not content:
        return
    run.say(f"  {how} {path.name}")
    if how == "remove":
        path.unlink()
    elif how == "replace":
        path.unlink()
        path.write_bytes(content)
    else:
        path.write_bytes(content[: draw.randrange(len(content))])
    live = process.live
    for call in (
        lambda: live.observe_many([Event(ITEMS[0], USERS[0])]),
        lambda: live.forget(user=USERS[0]),
        live.check_file,
    ):
        result = process.attempt(call)
        if not isinstance(result.error, errors.StorageError):
            raise FaultError(f"the file is lost, and the answer is {result}")
        # SQLite itself notices a -wal that was cut, when it reads a page from it.
        if how != "cut" and "was removed, replaced or cut" not in str(result.error):
            raise FaultError(f"the file is lost, and the message is {result.error}")
    since = process.since
    if draw.random() < 0.5:
        run.say("stops")
        process.stop()
    else:
        run.say("is killed")
        process.end(power=False)
    process.disk.settle()
    if path == process.path and how == "remove":  # whatever the -wal has
        since = [Oracle(process.oracle.weights, process.oracle.drop_repeats)]
    run.start(since, damage=whole)


def keep_copy(run: Run) -> None:
    """Stop, and copy the state file, as the docs advise."""
    run.process.stop()
    run.process.disk.write_back()
    run.process.disk.kill_after = None
    run.start([run.process.oracle, *run.process.maybe])
    run.process.stop()
    if not run.process.wal.exists():
        run.backup = run.copy()
    run.start([run.process.oracle])


def restore(run: Run) -> None:
    """Put an older copy of the state file back, with or without the -wal of the killed process."""
    if run.backup is None:
        return
    process = run.process
    process.disk.kill_after = None
    run.say("is killed")
    process.end(power=False)
    process.disk.write_back()
    process.disk.put(process.path, run.backup.file)
    if run.draw.random() < 0.5 or not process.wal.exists():
        run.say("  without -wal")
        process.disk.put(process.wal, None)
        run.start([run.backup.oracle.copy()])
    else:
        run.start([run.backup.oracle.copy()], damage=run.backup)


def other_weights(run: Run) -> None:
    """Start with the weights of another training."""
    run.end()
    candidates = [run.process.oracle, *run.process.maybe]
    run.start(candidates, weights=3 - run.process.oracle.weights)


def export(run: Run) -> None:
    """Export all states."""
    result = run.process.attempt(run.process.live.export_states, run.export_folder)
    if result.error is not None and not run.process.blurred:
        raise FaultError(f"an error without a fault: {result.error}")
    if result.error is not None:
        run.exported = None
        return
    run.exported = run.export_folder, run.process.oracle.copy()


def import_(run: Run) -> None:
    """Replace all states by exported ones."""
    if run.exported is None:
        return
    process, (folder, oracle) = run.process, run.exported
    weights, rebuild = process.oracle.weights, run.draw.random() < 0.5
    after = oracle.copy()
    fits = oracle.weights == weights
    if not fits:
        after.recompute(weights)
    result = process.attempt(process.live.import_states, folder, rebuild=rebuild)
    run.late = []
    if not fits and not rebuild:
        if result.error is None or "other weights" not in str(result.error):
            raise FaultError(f"states of other weights were imported: {result}")
        process.check()
    elif result.killed or result.error is not None:
        run.say(f"error: {result.error}")
        process.disk.room = None
        run.died()
        marked = oracle.copy()
        marked.weights = UNFINISHED
        between = [oracle.copy()] if fits else [marked, after]
        run.start([process.oracle, *process.maybe, *between], weights=weights)
    else:
        since = process.since
        process.take(after)
        process.since = [*since, oracle, after]
        process.check()


def reload(run: Run) -> None:
    """Swap the weights, while others do something wherever the reload lets them.

    Before the swap all answers are those of the former weights, after it those of the next ones,
    and a process that is killed leaves the states of one of both.
    """
    process, draw = run.process, run.draw
    live, weights = process.live, draw.choice([3 - process.oracle.weights] * 4 + [1])
    process.oracle.begin_reload()
    others = _Others(run)
    live._states.exclusive = others.wrapped(live._states.exclusive)
    swapped: list[Oracle] = []

    def after_the_swap() -> None:
        after = process.oracle.reloaded(weights)
        process.settle(after)
        process.oracle, process.maybe = after, []
        process.since.append(after)
        swapped.append(after)
        if difference := process.difference(after):
            others.faults.append(FaultError(f"at the swap {difference}"))
            raise others.faults[0]

    run.arm(0.4, mean=40)
    faults = process.disk.faults
    result = process.attempt(live.reload, str(weights), on_swap=after_the_swap)
    if others.faults:  # whatever the reload made of it
        raise others.faults[0]
    if process.live is not live:  # killed, and started again, by what others did
        return
    del live._states.exclusive
    run.say(f"  weights {weights}, {len(swapped)} swap, {result.error}")
    run.counts["swaps"] += len(swapped)
    if result.killed:
        run.counts["killed reloads"] += 1
        run.died()
        run.arm(0.2)
        of_both = [process.oracle, *process.maybe, process.oracle.reloaded(weights)]
        run.start(
            [process.oracle] if swapped else of_both,
            weights=process.oracle.weights if swapped else draw.choice([1, 2]),
        )
    elif result.error is None:
        if not swapped:
            raise FaultError("the reload has ended without a swap")
        process.check()
    else:
        is_replaced = others.n_imports and "were replaced" in str(result.error)
        if swapped or (process.disk.faults == faults and not is_replaced):
            raise FaultError(f"an error of the reload without a fault: {result.error}")
        process.disk.kill_after = None
        if not is_replaced:
            process.maybe.append(process.oracle.reloaded(weights))
        process.check()


class _Others:
    """What other threads do whenever a reload does not hold the lock."""

    def __init__(self, run: Run):
        self.n_imports = 0
        self.faults: list[FaultError] = []
        self._run, self._live = run, run.process.live
        self._chance = run.draw.choice([0, 0.05, 0.2])
        self._depth = 0  # of locks that are held
        self._is_busy = False

    def wrapped(self, exclusive: Any) -> Any:
        """Return the lock, after which others do something, maybe."""

        @contextlib.contextmanager
        def followed() -> Generator[None]:
            with exclusive():
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1
            if not self._depth and not self._is_busy:
                self._act()

        return followed

    def _act(self) -> None:
        draw = self._run.draw
        if draw.random() < self._chance:
            [step] = draw.choices(list(_MEANWHILE), list(_MEANWHILE.values()))
            self._run.say(f" meanwhile {step.__name__}")
            self._run.counts[f"{step.__name__} in a reload"] += 1
            self.n_imports += step is import_
            self._is_busy = True
            try:
                step(self._run)
            except FaultError as error:
                self.faults.append(error)
                raise
            self._is_busy = False
        if self._run.process.live is not self._live:
            raise Killed


_MEANWHILE: dict[Callable[[Run], None], float] = {
    deliver: 10,
    read: 2,
    forget: 2,
    forget_idle: 1,
    fill_disk: 0.5,
    import_: 0.3,
}
