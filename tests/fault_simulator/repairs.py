"""What a process may hold after bits have flipped: what it had, or what it says it has repaired."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tests.fault_simulator.oracle import Kept, Oracle, Person
from tests.fault_simulator.process import FaultError, Process, request


def adopt_damaged(process: Process, candidates: Sequence[Oracle]) -> int:
    """Take what the process holds, if it is the content of one of the oracles or repaired from it.

    Returns:
        The number of states and events that the process says it has found damaged.

    Raises:
        FaultError: something has changed without a word.
    """
    others = candidates[:-1]
    for oracle in reversed(others):
        if not process.difference(oracle):  # repairs all that is damaged
            process.take(oracle)
            return 0
    try:
        oracle = candidates[-1].copy()
        for key in list(oracle.people):
            _adopt(process, oracle, key)
        if difference := process.difference(oracle):
            raise FaultError(f"bits have flipped: {difference}; the log is {process.lines}")
        process.take(oracle)
        return len(process.lines)
    except FaultError:
        # An earlier repair may be lost with a part of the -wal: the next one is at another time.
        for oracle in reversed(others):
            if not process.difference(oracle, times=False):
                found, written = oracle.copy(), process.written()
                for key, person in found.people.items():
                    person.written = written[key]
                process.take(found)
                return 0
        raise


def _adopt(process: Process, oracle: Oracle, key: str) -> None:
    """Take what the process holds of one person."""
    live, person = process.live, oracle.people[key]
    said = len(process.lines)
    kept = tuple(Kept(*event) for event in live._states.store.events(key))
    if kept != person.kept:
        # Nothing tells that the oldest ones are missing, where their rows have become others'.
        is_told = len(process.lines) > said or kept == person.kept[-len(kept) :]
        if not is_told or not set(kept) <= set(person.kept):
            raise FaultError(f"events of {key} are {kept}, not {person.kept}, without a word")
        person.kept = kept
        process.blurred.add(key)
    rebuilt = live.counts["rebuilt"]
    live.recommend_many([request(key)])  # repairs it
    if live.counts["rebuilt"] == rebuilt:
        return  # it must be the right one
    if not person.kept:
        del oracle.people[key]
        return
    new = person.recomputed(oracle.weights)
    session = tuple(live._states.store.sessions(key, limit=1)[key])
    if process.written()[key] == process.clock.wall:  # the row that told its time is damaged too
        new = dataclasses.replace(new, written=process.clock.wall)
    choices: list[Person] = [new, new.told()]
    [*fitting] = [choice for choice in choices if choice.session() == session]
    if not fitting:
        raise FaultError(f"{key} was rebuilt with the session {session}, not {new.session()}")
    oracle.people[key] = dataclasses.replace(fitting[0])
