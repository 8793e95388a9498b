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
from collections.abc import Callable, Generator, Sequence
from typing import Any

from hrnn_jax.errors import InputError

Each = Callable[[str, Callable[..., Any], Sequence[tuple[Any, ...]]], list[Any]]
Progress = Callable[[str, int, int], None]  # what is done, how many of them, of how many


@dataclasses.dataclass(frozen=True)
class Parts:
    """In how many parts a log is prepared, and by whom."""

    count: int = 1
    workers: int = 1  # processes on this machine
    scheduler: str | None = None  # address of an engine whose workers see the prepared folders
    progress: Progress = lambda *_: None


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
        InputError: the engine is not installed, or cannot be reached; or a task was begun several
            times, and its worker was killed each time.
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
        futures = [client.submit(function, *task, pure=False) for task in tasks]
        try:
            for done, future in enumerate(distributed.as_completed(futures), 1):
                future.result()
                parts.progress(title, done, len(tasks))
            return client.gather(futures)  # type: ignore[return-value]
        except distributed.KilledWorker as error:
            raise InputError(
                f"{title}: its worker was killed again and again, for want of memory say; give "
                "fewer `workers` or more `parts`, and start again"
            ) from error

    own = {
        "distributed.nanny.pre-spawn-environ.POLARS_MAX_THREADS": max(
            1, (os.cpu_count() or 1) // parts.workers
        ),
    }
    with contextlib.ExitStack() as stack:
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        stack.enter_context(dask.config.set(own))
        address: Any = parts.scheduler
        try:
            if address is None:
                address = stack.enter_context(
                    distributed.LocalCluster(
                        n_workers=parts.workers,
                        threads_per_worker=1,
                        host="127.0.0.1",
                        dashboard_address=None,  # type: ignore[arg-type]
                        memory_limit=0,  # the engine kills no worker
                        local_directory=str(scratch),
                        silence_logs=logging.CRITICAL,
                    )
                )
            client = stack.enter_context(distributed.Client(address, timeout="10s"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"`scheduler`={address}: cannot be reached ({error}); give the address that "
                "`dask scheduler` prints"
            ) from error
        yield spread
