"""Start the service of a run folder, by the flags of experiments.serve."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import ipaddress
import json
import pathlib
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import polars as pl
import uvicorn
from absl import flags

from hrnn_jax.config import RecommenderConfig
from hrnn_jax.files.checkpoint import load_run
from hrnn_jax.live import item_index
from hrnn_jax.live.recommender import STATES, Recommender
from hrnn_jax.live.store.opening import is_database
from hrnn_jax.live.store.state_file import is_new, refuse_strays

from ..common import interrupt, progress, run_folder
from ..folders.row_names import title
from . import import_history, item_catalogue, middleware
from .app import Served, Settings, build
from .batcher import Batcher
from .item_catalogue import ItemCatalogue
from .operation.prometheus import ServiceMetrics
from .operation.reload import Reloader, Runs
from .protocol import BoundedProtocol

FLAGS = flags.FLAGS
LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})  # names of this machine for itself
_SHUTDOWN_SECONDS = 30  # for requests that are not yet answered when the service has to stop


def serve(
    run: pathlib.Path,
    listener: socket.socket,
    config: RecommenderConfig,
    *,
    token: bytes | None,
    begun: float,
) -> None:
    """Serve until a signal comes.

    Args:
        run: The run folder.
        listener: Where requests come in.
        config: How states and events are stored.
        token: What requests need, if anything.
        begun: The Unix time at which the process began, for systems that do not tell it.
    """
    image_hosts = item_catalogue.check_hosts(FLAGS.image_hosts)
    hosts = middleware.check_hosts(FLAGS.allowed_hosts)
    catalogue = item_catalogue.read(pathlib.Path(FLAGS.items)) if FLAGS.items else ItemCatalogue()
    with contextlib.ExitStack() as stack:
        recommender = stack.enter_context(_recommender(run, config))
        for line in catalogue.lines(recommender.trained.items, image_hosts):
            print(line, flush=True)
        recommender.warm_up()
        metrics = ServiceMetrics()
        begun = metrics.registry.get_sample_value("process_start_time_seconds") or begun
        batcher = stack.enter_context(contextlib.closing(Batcher(recommender, metrics)))
        host, port = listener.getsockname()[:2]
        is_local = ipaddress.ip_address(host.partition("%")[0]).is_loopback
        settings = dataclasses.replace(
            _settings(run, token, hosts | LOCAL if hosts or is_local else None),
            catalogue=catalogue,
            image_hosts=image_hosts,
        )
        served = _served(recommender, run, metrics, settings)
        app = build(batcher, metrics, settings, served)
        if not token and not is_local:
            print(
                "anyone who reaches this machine may read and write: see --token_file", flush=True
            )
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        server = uvicorn.Config(
            app,
            http=BoundedProtocol,
            ws="none",
            log_level="error",  # what strangers send must not fill the log
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nothing here asks who the client is
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        )
        print(_about(run), flush=True)
        gc.collect()
        gc.freeze()  # collections that pass over the loaded network would delay requests
        Server(server, url, begun, served.reloader.start_by_signal).run([listener])


class Server(uvicorn.Server):
    """A server that says when it is ready, and closes the connections of clients that stall."""

    def __init__(
        self,
        config: uvicorn.Config,
        url: str,
        begun: float,
        on_hangup: Callable[[], None] = lambda: None,
    ) -> None:
        """Take where it listens, when the process began in Unix time, and what SIGHUP calls."""
        super().__init__(config)
        self._url, self._begun, self._on_hangup = url, begun, on_hangup

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, with uvicorn's handlers of signals in place, so that a signal ends it from now."""
        await super().startup(sockets)
        if self.started:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._on_hangup)
            seconds = time.time() - self._begun
            print(
                f"ready in {seconds:.1f} s at {self._url}, its API at {self._url}/docs", flush=True
            )
            if interrupt.had_hangup():
                self._on_hangup()

    async def on_tick(self, counter: int) -> bool:
        """Do what is due; uvicorn calls this ten times a second."""
        if counter % 10 == 0:
            self.close_stalled()
        return await super().on_tick(counter)

    def close_stalled(self) -> None:
        """Close the connections of clients that have sent or read too little for too long."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, BoundedProtocol):
                connection.close_if_stalled()


def _served(
    recommender: Recommender, run: pathlib.Path, metrics: ServiceMetrics, settings: Settings
) -> Served:
    """Return what is served, and what a reload does to it."""
    below = pathlib.Path(FLAGS.reload_runs) if FLAGS.reload_runs else None
    states = pathlib.Path(FLAGS.states or run / STATES)

    def prepare(folder: pathlib.Path) -> Callable[[], None]:
        of_run = dataclasses.replace(
            _settings(folder, settings.token, settings.hosts),
            catalogue=settings.catalogue,
            image_hosts=settings.image_hosts,
        )
        line = _about(folder)

        def change() -> None:
            served.settings = of_run
            metrics.model.info({"name": of_run.model, "data": of_run.data})
            print(line, flush=True)

        return change

    served = Served(settings, Reloader(recommender, Runs(run, states, FLAGS.seed, below), prepare))
    return served


def _recommender(run: pathlib.Path, config: RecommenderConfig) -> Recommender:
    """Load the network and the states; import the history if there are none yet."""
    states = pathlib.Path(run / STATES) if FLAGS.states is None else FLAGS.states
    if not is_database(states):
        states = pathlib.Path(states)
        refuse_strays(states)
    network = load_run(run, seed=FLAGS.seed)
    if isinstance(states, pathlib.Path) and is_new(states):
        _import(run, lambda past: import_history.write_states(states, network, past, config))
    with contextlib.ExitStack() as stack:
        more: dict[str, Any] = {}
        if config.index != "exact":
            bar = progress.bar("making the index", len(network[0].items), "items")
            more["on_indexed"] = stack.enter_context(bar)
        recommender = Recommender(
            *network, states, rebuild=FLAGS.rebuild_states, config=config, **more
        )
    if is_database(states) and not len(recommender):
        _import(run, lambda past: import_history.add_states(recommender, past))
    if index := recommender.index:
        print(
            f"index: {index.scored:,} items are scored exactly for a list; half of them hold "
            f"{index.recall:.1%} of the best {item_index.OF_BEST} after one event",
            flush=True,
        )
    return recommender


def _import(run: pathlib.Path, write: Callable[[pl.DataFrame], str]) -> None:
    """Write the states after the past sessions, if there are any, and say what was imported."""
    past, lines = _history(run)
    if past is not None:
        lines = [write(past), *lines]
    for line in lines:
        print(line, flush=True)


def _history(run: pathlib.Path) -> tuple[pl.DataFrame | None, list[str]]:
    """Return the past sessions that --history names, if any, and lines that say more."""
    if FLAGS.history is None:
        return import_history.of_run(run, _data(run))
    if not FLAGS.history:
        return None, []
    return import_history.read(pathlib.Path(FLAGS.history), _data(run)), []


def _about(run: pathlib.Path) -> str:
    """Say which run is served: its model, the settings that are not usual, its Recall."""
    metrics = run_folder.read_metrics(run) or {}  # none while the run trains
    text = f"serving {title(run, metrics)} of {run}"
    by_seed = {figures["seed"]: figures for figures in metrics.get("per_seed", ())}
    seed = min(by_seed, default=None) if FLAGS.seed is None else FLAGS.seed
    recalls = [name for name in by_seed.get(seed, ()) if name.startswith("recall@")]
    for name in recalls[:1]:
        text += f", {name} {by_seed[seed][name]:.4f}"
    return text


def _settings(run: pathlib.Path, token: bytes | None, hosts: frozenset[str] | None) -> Settings:
    data = _data(run)
    metrics = run_folder.read_metrics(run)  # None while the run trains
    path = pathlib.Path(data["source"]["path"])
    title = metrics["title"] if metrics else str(path)
    return Settings(
        model=metrics["name"] if metrics else run_folder.read_recipe(run)["model"]["name"],
        data=path.name if pathlib.Path(title) == path else title,  # folders are nobody's business
        simulated=data["data"] == "simulated",
        given_sessions=data["columns"]["session"] is not None,
        token=token,
        max_body_bytes=1024 * FLAGS.max_body_kib,
        max_k=FLAGS.max_k,
        keep_sessions_seconds=3600 * FLAGS.keep_sessions_hours,
        hosts=hosts,
    )


def _data(run: pathlib.Path) -> dict:
    return json.loads((run / run_folder.DATA).read_text())
