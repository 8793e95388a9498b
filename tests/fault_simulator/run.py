"""A run: its process, what that may hold after each start, and the notes of what happened."""

from __future__ import annotations

import collections
import pathlib
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hrnn_jax.live.events import Event
from tests.fault_simulator.oracle import Oracle
from tests.fault_simulator.process import UNFINISHED, FaultError, Process
from tests.fault_simulator.repairs import adopt_damaged


class Copy(NamedTuple):
    """A copy of the files, and what they hold."""

    file: bytes
    wal: bytes | None
    oracle: Oracle
    since: list[Oracle]


class Run:
    """A run of one seed."""

    def __init__(
        self,
        seed: int,
        folder: pathlib.Path,
        make_process: Callable[[random.Random], Process] | None = None,
    ):
        """Prepare a run.

        Args:
            seed: of all that happens.
            folder: an empty one.
            make_process: of what is drawn; by default one of a state file.
        """
        self.draw = random.Random(seed)
        if make_process is None:
            (folder / "disk").mkdir()
            self.process = Process(folder / "disk", self.draw)
        else:
            self.process = make_process(self.draw)
        self.exported: tuple[pathlib.Path, Oracle] | None = None
        self.export_folder = folder / "export"
        self.backup: Copy | None = None
        self.late: list[list[Event]] = []  # calls that clients have not had an answer to, or repeat
        self.n_events = 0
        self.steps: list[str] = []
        self.counts: collections.Counter[str] = collections.Counter()

    @property
    def all_counts(self) -> collections.Counter[str]:
        """Return how often what has happened, on the disk too."""
        return self.counts + self.process.disk.counts

    def say(self, text: str) -> None:
        """Note what happens."""
        self.steps.append(text)

    def arm(self, chance: float, mean: float = 8) -> None:
        """Let the process be killed after some operations on the disk, maybe."""
        if self.draw.random() < chance:
            self.process.disk.kill_after = int(self.draw.expovariate(1 / mean))
            self.say(f"(killed after {self.process.disk.kill_after} operations)")

    def died(self) -> None:
        """End the process that was killed."""
        power = self.draw.random() < 0.5
        self.counts["power loss" if power else "kill"] += 1
        self.say("loses power" if power else "is killed")
        self.process.end(power=power)

    # The start, and what can come before it.

    def start(
        self,
        candidates: Sequence[Oracle],
        *,
        weights: int | None = None,
        damage: Copy | None = None,
    ) -> None:
        """Start the recommender until it runs.

        Args:
            candidates: what it may hold, the newest last.
            weights: to start with; by default those that it should have.
            damage: the files before an operator or the disk damaged them: the start may be refused
                then, and the operator puts them back.
        """
        process, disk, rebuild = self.process, self.process.disk, False
        before: list[Oracle] = []  # of a rebuild: the -wal may have it all
        candidates = list(candidates)
        weights = weights or max(candidates[-1].weights, 1)
        for _ in range(30):
            result = process.attempt(process.open, weights, rebuild)
            after = [oracle.copy() for oracle in candidates]
            if rebuild:
                for oracle in after:
                    if oracle.weights != weights:
                        oracle.recompute(weights)
            if result.killed:
                self.died()
                if rebuild:
                    marked = [oracle.copy() for oracle in candidates]
                    for oracle in marked:
                        oracle.weights = UNFINISHED
                    candidates += marked + after
                    # The operator repeats it, or goes on with any weights.
                    rebuild = self.draw.random() < 0.5
                    weights = weights if rebuild else self.draw.choice([1, 2])
                self.arm(0.3)
            elif result.error is None:
                for oracle in after:
                    if damage and not oracle.people:  # a new file is of no weights yet
                        oracle.weights = weights
                fitting = [oracle for oracle in after if oracle.weights == weights]
                if not fitting:
                    raise FaultError(
                        f"states of weights {candidates[-1].weights} taken by {weights}"
                    )
                if damage:
                    n_said = adopt_damaged(process, fitting)
                    self.counts["rebuilt"] += n_said
                    self.say(f"{n_said} lines of repairs")
                else:
                    process.adopt(fitting)
                process.since = [*before, *process.since]
                return
            else:
                self.say(f"refused: {result.error}")
                process.end(power=False)
                if damage:
                    self.counts["refused"] += 1
                    self.put_back(damage)
                    candidates, damage = [*damage.since[:-1], damage.oracle], None
                elif disk.room is not None and "cannot be written" in str(result.error):
                    disk.room = None
                elif disk.settles and "cannot be reached" in str(result.error):
                    self.counts["errors"] += 1
                elif not rebuild and any(oracle.weights != weights for oracle in candidates):
                    if not any(text in str(result.error) for text in ("weights", "rebuild")):
                        raise FaultError(f"refused: {result.error}")
                    rebuild, before = True, candidates
                    self.arm(0.5, mean=25)
                else:
                    raise FaultError(f"refused: {result.error}")
        raise FaultError("did not start")

    def copy(self) -> Copy:
        """Copy the files of the process that has ended."""
        process = self.process
        wal = process.wal.read_bytes() if process.wal.exists() else None
        return Copy(process.path.read_bytes(), wal, process.oracle, process.since)

    def put_back(self, copy: Copy) -> None:
        """End the process and put a copy back, as the message advises: with no other files."""
        self.process.end(power=False)
        self.process.disk.put(self.process.path, copy.file)
        self.process.disk.put(self.process.wal, copy.wal)

    def end(self) -> None:
        """End the process in one of the ways."""
        self.process.disk.kill_after = None
        if self.draw.random() < 0.5:
            self.say("stops")
            self.process.stop()
        else:
            self.died()

    def change(self, function: Callable[[], Any], after: Oracle) -> tuple[bool, Any]:
        """Call what changes states: all of it or nothing.

        Returns:
            Whether it was acknowledged, and what the call returned.
        """
        process, disk = self.process, self.process.disk
        faults = disk.faults
        process.forgotten -= after.people.keys()
        result = process.attempt(function)
        if result.killed:
            self.died()
            self.start([process.oracle, *process.maybe, after])
            return False, None
        if result.error is not None:
            self.say(f"error: {result.error}")
            if disk.faults == faults:
                raise FaultError(f"an error without a fault: {result.error}")
            disk.kill_after = None
            self.counts["errors"] += 1
            if difference := process.difference(process.oracle):
                # The answer to a commit was lost, but not the commit.
                if not disk.settles or process.difference(after):
                    raise FaultError(f"after an error {difference}")
                process.oracle = after
                self.counts["unanswered commits"] += 1
            elif not disk.settles:
                process.maybe.append(after)
            return False, None
        if after != process.oracle:
            process.maybe = []
        process.oracle = after
        process.since.append(after)
        return True, result.value
