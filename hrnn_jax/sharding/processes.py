"""The processes that compute together: how they find each other, agree and end.

All of it is `jax.distributed`; here are its errors in one line. Each process calls `join` before it
uses jax, and each is given the same work.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from hrnn_jax import errors

Tree = TypeVar("Tree")
HEARTBEAT_SECONDS = 30  # without one after which jax takes a process for dead
JOIN_SECONDS = 300.0
WAIT_SECONDS = 30 * 24 * 3600  # for process 0 to prepare a log or to rank
FIRST_SECONDS = 1.0  # that process 0 waits at ctrl-C, so that it does not end before the others
END_SECONDS = 5.0  # that a process with an error waits for the others to have the same one
_GONE = ("Gloo", "NCCL", "coordination service", "CoordinationService", "heartbeat", "Barrier")
_waits = itertools.count()
_ending = threading.Lock()  # for good, by the thread that ends this process: one line is printed
_joined = threading.Event()  # while this process is connected and needs the others


@dataclasses.dataclass(frozen=True)
class Place:
    """One process among those that compute together.

    Attributes:
        coordinator: HOST:PORT of process 0, where the others find it; None on a cluster that jax
            knows (SLURM, Kubernetes, Open MPI, TPU pods), whose settings then count.
        processes: How many there are.
        process: Which this one is, from 0.
    """

    coordinator: str | None
    processes: int | None = None
    process: int | None = None

    def __post_init__(self) -> None:
        """Check the fields. Raises InputError."""
        if self.coordinator is None:
            return
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise errors.InputError(
                f"`coordinator`={self.coordinator}: give HOST:PORT of process 0, as in node0:9876"
            )
        for name, value in (("processes", self.processes), ("process", self.process)):
            if value is None:
                raise errors.InputError(f"`coordinator` needs `{name}`: give it as well")
        assert self.processes is not None
        assert self.process is not None
        if self.processes < 1:
            raise errors.InputError(f"`processes`={self.processes}: give at least 1")
        if not 0 <= self.process < self.processes:
            raise errors.InputError(
                f"`process`={self.process}: of {self.processes} processes they are 0 to "
                f"{self.processes - 1}"
            )


def join(
    place: Place,
    *,
    within: float = JOIN_SECONDS,
    heartbeat: int = HEARTBEAT_SECONDS,
) -> None:
    """Connect this process with the others, before jax is used.

    Ends the process with one line and exit code 2 if the others have not come in time: jax would
    abort it with a stack trace.

    Args:
        place: of this process.
        within: seconds that the others have to come.
        heartbeat: seconds without a sign of life after which jax ends the others. Most end
            earlier: at the end of process 0, see `_relay`; and on CPUs at that of any other, as a
            collective fails as soon as the connection is closed.

    Raises:
        InputError: the port is taken, or no cluster is found that jax knows.
    """
    if place.process == 0 and place.coordinator:
        _check_free(place.coordinator)
    # Used by CPUs alone.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # It would catch SIGTERM, for a checkpoint that is not asked for, and not end.
    jax.config.update("jax_enable_preemption_service", False)
    where = place.coordinator or "the cluster's coordinator"
    waiting = threading.Timer(within, _end, [_missing(place, where, within)])
    waiting.daemon = True
    waiting.start()
    coordinator = place.coordinator
    if coordinator and place.process:
        coordinator = _relay(coordinator, place.process)
    try:
        jax.distributed.initialize(
            coordinator,
            place.processes,
            place.process,
            cluster_detection_method="deactivate" if coordinator else None,
            initialization_timeout=int(within) + 60,  # the timer is first
            heartbeat_timeout_seconds=heartbeat,
        )
    except (ValueError, RuntimeError) as error:
        raise errors.InputError(
            f"cannot join the processes at {where} ({errors.reason(error)}); give `coordinator`, "
            "`processes` and `process`"
        ) from error
    finally:
        waiting.cancel()
    _joined.set()


def check_same(parts: Mapping[str, Any]) -> None:
    """Check that all processes were given the same work.

    Args:
        parts: what must be the same, by what it is called: the recipe, the fingerprint of the
            prepared log. Values that JSON can hold; each process has the same names.

    Raises:
        InputError: in every process; names the first part that differs, and the processes whose
            own is another than that of process 0.
    """
    own = np.stack([_digest(value) for value in parts.values()])
    digests = np.reshape(multihost_utils.process_allgather(own), (-1, *own.shape))
    for name, of_name in zip(parts, digests.swapaxes(0, 1), strict=True):
        if len(differ := np.flatnonzero((of_name != of_name[0]).any(axis=1))):
            raise errors.InputError(
                f"process {', '.join(map(str, differ))}: another {name} than process 0: give all "
                "processes the same command and the same files"
            )


def is_first() -> bool:
    """Say whether this process prints and writes for all."""
    return jax.process_index() == 0


def of_first(values: Tree) -> Tree:
    """Return what process 0 has, in all processes.

    Args:
        values: numbers below 2**31, or arrays of such or of float32, of the same shapes in all
            processes.
    """
    if jax.process_count() == 1:
        return values
    sent = multihost_utils.broadcast_one_to_all(jax.tree.map(_in_32_bits, values))
    return jax.tree.map(_like, values, sent)


def wait() -> None:
    """Wait until all processes are here, for hours if need be: a collective would fail earlier."""
    if jax.process_count() == 1:
        return
    everyone = set(range(jax.process_count()))
    name = f"wait_{next(_waits)}"
    ocp.multihost.sync_global_processes(name, timeout=WAIT_SECONDS, processes=everyone)


def is_of_another(error: Exception) -> bool:
    """Say whether an error is that another process has died."""
    return any(sign in str(error) for sign in _GONE)


@contextlib.contextmanager
def together() -> Generator[None]:
    """End this process with one line and exit code 1 where another one has died in the block.

    An orderly end would wait for it. So does that of an error of this process alone: it passes
    through, and the process ends in a few seconds, unless all have come to their end before.
    """
    try:
        yield
    except KeyboardInterrupt:
        if jax.process_count() > 1 and is_first():
            time.sleep(FIRST_SECONDS)
        raise
    except Exception as error:
        if jax.process_count() == 1:
            raise
        if not is_of_another(error):
            code = 2 if isinstance(error, errors.InputError | OSError) else 1
            end = threading.Timer(END_SECONDS, _exit, [code])
            end.daemon = True
            end.start()
            raise
        _end_without_others(jax.process_index())
    finally:
        _joined.clear()


def _relay(coordinator: str, process: int) -> str:
    """Return an address here that leads to process 0, whose end then ends this process in one line.

    At the end of a connection of its own jax prints lines of its own and aborts the process.
    """
    host, _, port = coordinator.rpartition(":")
    entrance = socket.create_server(("127.0.0.1", 0))

    def first_ends() -> None:
        if _joined.is_set():
            _end_without_others(process)

    def enter() -> None:
        while True:
            here, _ = entrance.accept()
            try:
                first = socket.create_connection((host.strip("[]"), int(port)))
            except OSError:  # jax tries again
                here.close()
                continue
            for ends in ((first, here, first_ends), (here, first, lambda: None)):
                threading.Thread(target=_pass_on, args=ends, daemon=True).start()

    threading.Thread(target=enter, daemon=True).start()
    return f"127.0.0.1:{entrance.getsockname()[1]}"


def _pass_on(source: socket.socket, target: socket.socket, at_end: Callable[[], None]) -> None:
    """Send what comes on until a connection is closed; then close the other one."""
    with contextlib.suppress(OSError):
        while part := source.recv(1 << 16):
            target.sendall(part)
    at_end()
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _check_free(coordinator: str) -> None:
    """Raise InputError where the port is taken: jax would not say so."""
    port = int(coordinator.rpartition(":")[2])
    with socket.socket(socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise errors.InputError(
                f"`coordinator`={coordinator}: port {port} is taken ({error.strerror}): choose "
                "another one, the same for all processes"
            ) from error


def _missing(place: Place, where: str, within: float) -> str:
    if place.process == 0:
        return (
            f"not all of {place.processes} processes have come to {where} within {within:g} "
            "seconds: start the others with the same coordinator and their own numbers"
        )
    return (
        f"process 0 has not answered at {where} within {within:g} seconds: start it, and see that "
        "its port can be reached from here"
    )


def _end_without_others(process: int) -> NoReturn:
    _end(
        f"process {process} ends, as another one has ended or cannot be reached; start the same "
        "command on all again to go on",
        code=1,
    )


def _end(text: str, code: int = 2) -> NoReturn:
    _ending.acquire()
    print("error:", text, file=sys.stderr)
    _exit(code)


def _exit(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # at once: jax's threads would wait for the others, then abort


def _in_32_bits(values: Any) -> np.ndarray:
    kind = np.float32 if np.asarray(values).dtype == np.float32 else np.int32
    return np.asarray(values, kind)


def _like(values: Any, sent: Any) -> Any:
    kind = values.dtype if isinstance(values, np.ndarray) else None
    return np.asarray(sent, kind) if kind else type(values)(sent)


def _digest(value: Any) -> np.ndarray:
    text = json.dumps(value, sort_keys=True)
    return np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
