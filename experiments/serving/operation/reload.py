"""Weights that are swapped while the service runs: by POST /reload, or by SIGHUP."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import pathlib
import sys
import threading
from collections.abc import Callable, Generator
from typing import Literal, NamedTuple

import fastapi

from hrnn_jax.errors import InputError, StorageError
from hrnn_jax.live.recommender import STATES, Recommender
from hrnn_jax.live.states.reload import Progress

from .. import schemas
from ..error_responses import describe_errors
from ..routes import StrictRoute

logger = logging.getLogger("hrnn_jax")  # a command shows what it gets
_TURN = 0.001  # seconds of one thread of Python while others want to go on


class Runs(NamedTuple):
    """The run folders that the service may be told to load."""

    given: pathlib.Path  # at the start; it may be a link, or written anew
    states: pathlib.Path  # the state file
    seed: int | None = None
    below: pathlib.Path | None = None  # the folder of others, if any

    def named(self, name: str | None) -> pathlib.Path:
        """Return the run folder that a client named; None for the one given.

        Args:
            name: The folder's path in `below`, as LOG/MODEL in out/runs.

        Raises:
            HTTPException: there is none of this name, or none may be named.
        """
        if name is None:
            return self.given
        if self.below is None:
            raise fastapi.HTTPException(
                404, "leave run out: the service has no folder of runs (--reload_runs)"
            )
        folder = self.below / name
        is_below = self.below.resolve() in folder.resolve().parents  # a link may lead out of it
        if not is_below or not (folder / "recipe.json").is_file():
            raise fastapi.HTTPException(404, f"there is no run folder {name!r}")
        return folder

    def check(self, run: pathlib.Path, loaded: pathlib.Path) -> None:
        """Raise InputError where a restart with another run folder would not find the states.

        run: that is to be loaded; loaded: that is in use, without links.
        """
        if run.resolve() != loaded and self.states == self.given / STATES:
            raise InputError(
                f"the states are in the run folder ({self.states}), where a start with {run} would "
                "not find them: start the service with --states=FILE outside of it, then reload"
            )


Status = Literal["none", "loading", "computing states", "done", "failed"]


class Reloader:
    """Reloads one run at a time, in a thread of its own."""

    def __init__(
        self,
        recommender: Recommender,
        runs: Runs | None = None,
        prepare: Callable[[pathlib.Path], Callable[[], object]] = lambda run: lambda: None,
    ):
        """Take what is reloaded.

        Args:
            recommender: gets the weights.
            runs: that may be loaded; None for none.
            prepare: reads what else is of the run folder, before its weights are loaded; what it
                raises fails the reload. What it returns is called by the event loop after the
                weights are in use.
        """
        self._recommender, self._runs, self._prepare = recommender, runs, prepare
        self._loaded = None if runs is None else runs.given.resolve()
        self._ends = threading.Event()
        self._task: asyncio.Task[None] | None = None
        self._status: Status = "none"
        self._part = 0.0

    @property
    def health(self) -> schemas.Reload:
        """What /health says of it; reasons and paths are in the log alone."""
        return schemas.Reload(status=self._status, part=round(self._part, 3))

    def start(self, name: str | None) -> None:
        """Start a reload.

        Args:
            name: of the run folder; None for the one given at the start.

        Raises:
            HTTPException: it may not be loaded, a reload is under way, or the states are in a
                database.
        """
        if self._runs is None:
            raise fastapi.HTTPException(404, "this service has no run folder to reload")
        try:
            self._recommender.check_reload()
        except InputError as error:
            raise fastapi.HTTPException(404, str(error)) from None
        run = self._runs.named(name)
        if self._task and not self._task.done():
            raise fastapi.HTTPException(409, "a reload is under way: wait for its end in /health")
        self._status, self._part = "loading", 0.0
        self._task = asyncio.create_task(self._run(run, self._runs))

    def start_by_signal(self) -> None:
        """Start a reload of the run folder given at the start, or say why not."""
        try:
            self.start(None)
        except fastapi.HTTPException as error:
            logger.error(f"SIGHUP: {error.detail}")

    async def close(self) -> None:
        """End a reload that is under way; the weights in use stay."""
        self._ends.set()
        if self._task:
            await self._task

    async def _run(self, run: pathlib.Path, runs: Runs) -> None:
        print(f"reloading {run}", flush=True)
        try:
            folder = run.resolve()  # a link may lead elsewhere later
            assert self._loaded is not None
            runs.check(run, self._loaded)
            on_swap = await asyncio.to_thread(self._prepare, folder)
            # A later restart of the run's seed and the states of the reload have the same weights.
            with _short_turns():
                await asyncio.to_thread(
                    self._recommender.reload, folder, seed=runs.seed, on_progress=self._note
                )
        except _EndedError:
            self._status = "failed"
        except (InputError, StorageError) as error:
            self._fail(run, str(error))
        except Exception as error:  # what a damaged folder or too little memory may raise
            self._fail(run, f"{type(error).__name__}: {error}")
        else:
            self._loaded = folder
            on_swap()
            self._status, self._part = "done", 1.0

    def _note(self, progress: Progress) -> None:
        if progress.step == "done":
            return
        if self._ends.is_set():
            raise _EndedError
        if self._status == "loading" and progress.step != "loading":
            gc.freeze()  # collections that pass over the loaded network would delay requests
        self._status = progress.step
        self._part = progress.done / progress.of if progress.of else 0.0

    def _fail(self, run: pathlib.Path, reason: str) -> None:
        self._status = "failed"
        words = " ".join(reason.split())
        logger.error(f"the reload of {run} has failed, and the run of before serves on: {words}")


@contextlib.contextmanager
def _short_turns() -> Generator[None]:
    """Let the event loop have its turn after a thousandth of a second, and not after five.

    A request takes several turns, each of which waits for the thread that reloads.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class _EndedError(Exception):
    """The service has to stop."""


def reload_routes(reloader: Reloader, group: str) -> fastapi.APIRouter:
    """Make the route of POST /reload.

    Args:
        reloader: does the work.
        group: of the route in the description of the API.
    """
    router = fastapi.APIRouter(
        responses=describe_errors(400, 401, 404, 409, 413, 415, 422), route_class=StrictRoute
    )

    @router.post(
        "/reload", status_code=202, tags=[group], summary="Go on with the weights of another run."
    )
    async def post_reload(body: schemas.ReloadedRun) -> schemas.Reload:
        """Load a run folder and compute all states by it, while the one of before serves on.

        The answer comes at once; /health says how far it is. At its end both are swapped in one
        moment. If it fails, the run of before serves on, and the log says why.
        """
        reloader.start(body.run)
        return reloader.health

    return router
