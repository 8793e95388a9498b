"""What clients do: they send events twice, late and out of order, ask for lists, and forget."""

from __future__ import annotations

from hrnn_jax.live.events import Event
from tests.fault_simulator.oracle import GAP, ITEMS, key_of
from tests.fault_simulator.process import FaultError, request
from tests.fault_simulator.run import Run

USERS = [f"person{n}z" for n in range(5)]
VISITS = [f"visit{n}z" for n in range(3)]  # anonymous sessions


def deliver(run: Run) -> None:
    """Send calls of one or several clients, some twice, late or in another order."""
    draw = run.draw
    calls = [new_call(run) for _ in range(draw.choice([1, 1, 2, 4]))]
    if run.late and draw.random() < 0.5:
        calls.append(run.late.pop(draw.randrange(len(run.late))))
    if draw.random() < 0.2:  # on its way for long
        run.late.append(calls.pop())
    draw.shuffle(calls)
    events = [event for call in calls for event in call]
    run.say(f"  {[(e.user or e.session, e.item, e.time, e.session, e.event_id) for e in events]}")
    after = run.process.oracle.copy()
    expected = after.observe(events, run.process.clock.wall)
    acknowledged, outcomes = run.change(lambda: run.process.live.observe_many(events), after)
    if acknowledged and outcomes != expected:
        raise FaultError(f"outcomes are {outcomes}, not {expected}")
    run.counts["acknowledged events"] += acknowledged * len(events)
    for call in calls:
        if not acknowledged or draw.random() < 0.15:
            run.late.append(call)


def new_call(run: Run) -> list[Event]:
    """Return the events of one client's call."""
    draw, events = run.draw, []
    user = draw.choice(USERS)
    visit = draw.choice(VISITS) if draw.random() < 0.2 else None
    for _ in range(draw.choice([1, 1, 2, 5])):
        run.n_events += 1
        item = draw.choice([*ITEMS, "none"])
        time = run.process.clock.wall + draw.choice([0, 0, 1.5, -5, -3 * GAP])
        id_ = f"{visit or user}-{run.n_events}" if draw.random() < 0.8 else None
        session = visit or draw.choice([None, None, "a", "b"])
        events.append(Event(item, None if visit else user, time, session, id_))
    return events


def read(run: Run) -> None:
    """Ask for lists."""
    keys = [*(f"u{user}" for user in USERS), *(f"s{visit}" for visit in VISITS)]
    keys = run.draw.sample(keys, 3)
    seen = run.draw.random() < 0.5
    requests = [request(key, k=5, exclude_seen=seen) for key in keys]
    expected = [run.process.oracle.best(key, 5, exclude_seen=seen) for key in keys]
    lists = run.process.live.recommend_many(requests)
    if lists != expected:
        raise FaultError(f"lists are {lists}, not {expected}")


def forget(run: Run) -> None:
    """Forget somebody; the client asks until it is done."""
    people = run.process.oracle.people
    key = run.draw.choice([*people, "unobody"])
    run.say(f"  {key}")
    run.late = [left for call in run.late if (left := [e for e in call if key_of(e) != key])]
    was_deleted = False  # by a call that ended with an error, of this process
    for _ in range(30):
        process = run.process
        after = process.oracle.copy()
        was_known = after.people.pop(key, None) is not None
        name = {"user" if key[0] == "u" else "session": key[1:]}
        faults = process.disk.faults
        result = process.attempt(process.live.forget, **name)
        if result.killed:
            was_deleted = False
            run.died()
            run.start([process.oracle, *process.maybe, after])
        elif result.error is not None:
            run.say(f"error: {result.error}")
            if process.disk.faults == faults:
                raise FaultError(f"an error without a fault: {result.error}")
            process.disk.room = None
            if process.difference(process.oracle):
                was_deleted = True
                process.oracle = after  # deleted, but not from all bytes
                process.since.append(after)
            process.maybe.append(after)
        else:
            if result.value != (was_known or was_deleted):
                raise FaultError(f"forget returned {result.value}")
            if was_known:
                process.take(after)
            process.forgotten.add(key)
            process.check()
            return
    raise FaultError("cannot forget")


def forget_idle(run: Run) -> None:
    """Forget idle anonymous sessions."""
    process, clock = run.process, run.process.clock
    seconds = run.draw.choice([10.0, 3 * GAP])
    jumped = (clock.wall - process.looked[0]) - (clock.steady - process.looked[1]) > 60
    after = process.oracle.copy()
    idle = [] if jumped else after.idle(clock.wall - seconds)
    for key in idle:
        del after.people[key]
    process.looked = clock.wall, clock.steady
    result = process.attempt(process.live.forget_idle_sessions, seconds)
    if result.killed or result.error is not None:
        steps = [process.oracle]
        for key in sorted(idle):
            steps.append(steps[-1].copy())
            del steps[-1].people[key]
        candidates = [*process.maybe, *steps]
        if result.error is not None:
            run.say(f"error: {result.error}")
            process.disk.room = None
        run.died()
        run.start(candidates)
    elif result.value != len(idle):
        raise FaultError(f"{result.value} sessions were forgotten, not {idle}")
    elif idle:
        process.take(after)
        process.forgotten.update(idle)
        process.check()
