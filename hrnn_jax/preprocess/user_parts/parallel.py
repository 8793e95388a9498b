"""The one place that knows the engine which spreads preprocessing over processes: Dask.

Tasks are pure functions of their arguments and of files that all workers see, so that the engine
runs a task again where its worker has been killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import pathlib
import re
import signal
from collections.abc import Callable, Generator, Sequence
from typing import Any

from hrnn_jax.errors import InputError, reason

Each = Callable[[str, Callable[..., Any], Sequence[tuple[Any, ...]]], list[Any]]
Progress = Callable[[str, int, int], None]  # what is done, how many of them, of how many
_CONNECT = "10s"
_WITHOUT_WORKERS = 30.0  # seconds to wait for a worker


@dataclasses.dataclass(frozen=True)
class Parts:
    """In how many parts a log is prepared, and by whom.

    Attributes:
        count: How many parts.
        workers: Processes of this machine that prepare them.
        scheduler: HOST:PORT of a Dask scheduler whose workers do instead; they see the log and the
            prepared folders under the same names.
        progress: Is called with what is done, how many of them, and of how many.
    """

    count: int = 1
    workers: int = 1
    scheduler: str | None = None
    progress: Progress = lambda *_: None

    def __post_init__(self) -> None:
        """Check the fields. Raises InputError."""
        for name in ("count", "workers"):
            if getattr(self, name) < 1:
                raise InputError(f"`{name}`={getattr(self, name)}: give at least 1")
        if self.scheduler is not None:
            if not re.fullmatch(r"(\w+://)?\S+:\d+", self.scheduler):
                raise InputError(
                    f"`scheduler`={self.scheduler}: give the HOST:PORT that `dask scheduler` prints"
                )
            if self.workers > 1:
                raise InputError(
                    "`workers` are processes of this machine, and `scheduler` has workers of its "
                    "own: drop one of the two"
                )
        if self.count == 1 and (self.workers > 1 or self.scheduler is not None):
            name = "scheduler" if self.workers == 1 else "workers"
            raise InputError(
                f"`{name}`={getattr(self, name)} has no effect on a log of one part: give `parts` "
                "as well, such as 4"
            )


@contextlib.contextmanager
def opened(parts: Parts, scratch: pathlib.Path) -> Generator[Each]:
    """Start the workers while the block runs.

    Args:
        parts: how many workers, or which ones. With one and no scheduler there is no engine.
        scratch: a folder for the engine's own files.

    Yields:
        each(title, function, tasks): applies the function to the arguments of each task, and
        returns the results in the order of the tasks.

    Raises:
        InputError: the engine is not installed, or cannot be reached; it has no worker, or none
            that can run the tasks; or a task was begun several times, and its worker was killed
            each time.
    """
    if parts.workers == 1 and parts.scheduler is None:

        def in_turn(
            title: str, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]
        ) -> list[Any]:
            results = []
            for task in tasks:
                results.append(function(*task))
                parts.progress(title, len(results), len(tasks))
            return results

        yield in_turn
        return
    try:
        import dask.config
        import distributed
    except ImportError as error:
        raise InputError(
            "`workers` and `scheduler` need the extra parts: pip install 'hrnn_jax[parts]', or "
            "leave them out"
        ) from error

    def spread(
        title: str, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]
    ) -> list[Any]:
        with _in_one_line(title, parts):
            futures = [client.submit(function, *task, pure=False) for task in tasks]
            waiting = set(futures)
            while waiting:
                try:
                    done, waiting = distributed.wait(  # type: ignore[misc]
                        waiting, timeout=_WITHOUT_WORKERS, return_when="FIRST_COMPLETED"
                    )
                except TimeoutError:
                    _check_workers(client, parts)
                    continue
                for future in done:
                    future.result()
                parts.progress(title, len(futures) - len(waiting), len(futures))
            return client.gather(futures)  # type: ignore[return-value]

    own = {
        "distributed.nanny.pre-spawn-environ.POLARS_MAX_THREADS": max(
            1, (os.cpu_count() or 1) // parts.workers
        ),
    }
    with contextlib.ExitStack() as stack:
        for name in list(logging.root.manager.loggerDict):
            if name.partition(".")[0] in ("distributed", "tornado"):  # what fails is raised as well
                logging.getLogger(name).setLevel(logging.CRITICAL)
        stack.enter_context(dask.config.set(own))
        address: Any = parts.scheduler
        try:
            if address is None:
                address = stack.enter_context(
                    distributed.LocalCluster(
                        n_workers=min(parts.workers, parts.count),
                        threads_per_worker=1,
                        host="127.0.0.1",
                        dashboard_address=None,  # type: ignore[arg-type]
                        memory_limit=0,  # the engine kills no worker
                        local_directory=str(scratch),
                        silence_logs=logging.CRITICAL,
                    )
                )
            client = stack.enter_context(distributed.Client(address, timeout=_CONNECT))
        except (OSError, ValueError) as error:
            raise InputError(
                f"`scheduler`={address}: cannot be reached ({reason(error)}); give the address "
                "that `dask scheduler` prints"
            ) from error
        if parts.scheduler is None:
            client.run(_ignore_interrupts)
        else:
            with contextlib.suppress(TimeoutError):
                client.wait_for_workers(1, timeout=_WITHOUT_WORKERS)
            _check_workers(client, parts)
        yield spread


def _ignore_interrupts() -> None:
    """Leave ctrl-C, which all processes of a terminal get, to the process that ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _check_workers(client: Any, parts: Parts) -> None:
    """Raise InputError where there is no worker: tasks would wait for ever."""
    if client.scheduler_info(n_workers=1)["workers"]:
        return
    if parts.scheduler is None:
        raise InputError("all `workers` have ended: start the command again")
    raise InputError(
        f"`scheduler`={parts.scheduler}: has no worker; start `dask worker {parts.scheduler}` on "
        "each machine, and the command again"
    )


@contextlib.contextmanager
def _in_one_line(title: str, parts: Parts) -> Generator[None]:
    """Raise as InputError what the engine raises of its workers."""
    import distributed
    from distributed.comm.core import CommClosedError

    where = "this machine" if parts.scheduler is None else f"`scheduler`={parts.scheduler}"
    try:
        yield
    except distributed.KilledWorker as error:
        raise InputError(
            f"{title}: its worker was killed again and again, for want of memory say; give "
            "fewer `workers` or more `parts`, and start again"
        ) from error
    except (distributed.CancelledError, CommClosedError) as error:
        raise InputError(
            f"{title}: the scheduler of {where} has ended ({reason(error)}); start it and the "
            "command again"
        ) from error
    except ImportError as error:
        raise InputError(
            f"{title}: a worker of {where} cannot import what it needs ({reason(error)}); install "
            "the same version of hrnn_jax there"
        ) from error
    except FileNotFoundError as error:
        raise InputError(
            f"{title}: a worker of {where} has not found a file ({reason(error)}); give a log and "
            "a `prepared_dir` that all workers see under the same names"
        ) from error
