"""Serve recommendations from a run folder: JSON over HTTP, and a page to look at them.

python -m experiments.serve --run=out/runs/video/hrnn_init
"""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import json
import os
import pathlib
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

import uvicorn
from absl import flags

from hrnn_jax import atomic, errors, model
from hrnn_jax.checkpoint import TrainedRun, load_run
from hrnn_jax.live.recommender import STATES, Recommender, RecommenderConfig

from .common import cli, compile_cache, progress, run_flags, run_folder
from .serving import app as serving_app
from .serving import batcher as serving_batcher
from .serving import import_history, prometheus

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "states", None, "The file that holds the users' states; states.sqlite in --run by default."
)
flags.DEFINE_string(
    "host", "127.0.0.1", "The address to listen at: this machine's own unless told otherwise."
)
flags.DEFINE_integer(
    "port", 8000, "The port to listen at; 0 takes a free one.", lower_bound=0, upper_bound=65535
)
flags.DEFINE_string(
    "token_file",
    None,
    "A file that holds a bearer token, without which nothing but the page is answered; "
    "HRNN_JAX_TOKEN in the environment does the same. Anyone may ask without one.",
)
flags.DEFINE_integer("max_body_kib", 1024, "The largest body of a request, in KiB.", lower_bound=1)
flags.DEFINE_integer("max_k", 1000, "The longest list of recommendations.", lower_bound=1)
flags.DEFINE_integer(
    "cached_users", 100_000, "States kept in memory; the others are read from disk.", lower_bound=1
)
flags.DEFINE_integer("kept_events", 1_000, "The newest events kept of each user.", lower_bound=1)
flags.DEFINE_enum(
    "unknown_items",
    "skip",
    ("skip", "error"),
    "Whether an event of an item that the network does not know is skipped or refused.",
)
flags.DEFINE_bool(
    "rebuild_states",
    False,
    "Make the states anew from the events kept, where other weights made them.",
)
flags.DEFINE_float(
    "keep_sessions_hours",
    720,
    "Anonymous sessions without an event for so many hours are forgotten.",
    lower_bound=0,
)
flags.DEFINE_string(
    "history",
    None,
    "What the users' past is taken from at the first start: a log with the columns of the run's, "
    "or a prepared folder. By default the one that the run was trained on, if it is still there; "
    "none if empty.",
)
_IMPORTED = time.time()  # where the system does not tell when the process began
_GRACE_SECONDS = 30  # for requests in flight when the service is told to stop


class _Server(uvicorn.Server):
    """Says when it is ready."""

    def __init__(self, config: uvicorn.Config, url: str, begun: float):
        super().__init__(config)
        self._url, self._begun = url, begun

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        seconds = time.time() - self._begun
        print(f"ready in {seconds:.1f} s at {self._url}, its API at {self._url}/docs", flush=True)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    run = run_flags.folder()
    token = _token()
    compile_cache.keep()
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(_listening())
        recommender = stack.enter_context(_recommender(run))
        recommender.warm_up()
        measured = prometheus.Meters()
        begun = measured.registry.get_sample_value("process_start_time_seconds") or _IMPORTED
        batcher = stack.enter_context(serving_batcher.Batcher(recommender, measured.batch))
        app = serving_app.build(batcher, measured, _settings(run, token))
        host, port = listening.getsockname()[:2]
        if not token and not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
            print("anyone who reaches this machine may ask and write: see --token_file", flush=True)
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        gc.collect()
        gc.freeze()  # what is there stays: looking through it time and again would hold up requests
        _Server(config, url, begun).run([listening])


def _token() -> bytes | None:
    """Return the token to ask for, None for none."""
    token = os.environ.get("HRNN_JAX_TOKEN", "")
    if FLAGS.token_file:
        try:
            token = pathlib.Path(FLAGS.token_file).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise errors.InputError(f"--token_file={FLAGS.token_file}: {error}") from error
        if not token.strip():
            raise errors.InputError(f"--token_file={FLAGS.token_file} is empty: write a token")
    return token.strip().encode() or None


@contextlib.contextmanager
def _listening() -> Iterator[socket.socket]:
    """Take the port before the network is loaded: what comes until then waits."""
    family = socket.AF_INET6 if ":" in FLAGS.host else socket.AF_INET
    try:
        listening = socket.create_server((FLAGS.host, FLAGS.port), family=family, backlog=2048)
    except OSError as error:
        raise errors.InputError(
            f"cannot listen at --host={FLAGS.host} --port={FLAGS.port} ({error.strerror}): give "
            "others; --port=0 takes a free one"
        ) from error
    with listening:
        yield listening


def _recommender(run: pathlib.Path) -> Recommender:
    """Load the network and the states; those of its users' past, at the first start."""
    path = pathlib.Path(FLAGS.states or run / STATES)
    config = RecommenderConfig(
        cached_users=FLAGS.cached_users,
        kept_events=FLAGS.kept_events,
        unknown_items=FLAGS.unknown_items,
    )
    served = load_run(run, seed=FLAGS.seed)
    if not path.exists() and (past := _past(run)):
        _take_in(past, run, served, path, config)
    return Recommender(*served, path, rebuild=FLAGS.rebuild_states, config=config)


def _take_in(
    past: pathlib.Path,
    run: pathlib.Path,
    served: tuple[TrainedRun, model.Params],
    path: pathlib.Path,
    config: RecommenderConfig,
) -> None:
    """Make the state file after the users' past, whole or not at all."""
    frame = import_history.read(past, _read(run / run_folder.DATA))
    with atomic.writing(path) as partial:
        with (
            Recommender(*served, partial, config=config) as first,
            progress.bar("taking in the past", len(frame), "events") as advance,
        ):
            counts = first.bootstrap(frame, on_events=advance)
            users = len(first)
        if path.exists():
            raise errors.InputError(f"{path} was made meanwhile: is another service starting?")
    became = ", ".join(f"{n:,} {outcome}" for outcome, n in sorted(counts.items()))
    print(f"took in the past of {users:,} users from {past}: events {became}", flush=True)


def _past(run: pathlib.Path) -> pathlib.Path | None:
    """Return the log or prepared folder that holds the users' past, if there is one."""
    if FLAGS.history is not None:
        return pathlib.Path(FLAGS.history) if FLAGS.history else None
    with contextlib.suppress(OSError):
        written = dict(
            line.lstrip("-").partition("=")[::2]
            for line in (run / "flags").read_text().splitlines()
        )
        folder = pathlib.Path(written["prepared_dir"]) / _read(run / "recipe.json")["data"]
        if folder.is_dir():
            return folder
    return None


def _settings(run: pathlib.Path, token: bytes | None) -> serving_app.Settings:
    data = _read(run / run_folder.DATA)
    metrics = run_folder.read_metrics(run)  # None where the run has not ended
    return serving_app.Settings(
        model=metrics["name"] if metrics else _read(run / "recipe.json")["model"]["name"],
        data=metrics["title"] if metrics else data["source"]["path"],
        simulated=data["data"] == "simulated",
        given_sessions=data["columns"]["session"] is not None,
        token=token,
        max_body_bytes=1024 * FLAGS.max_body_kib,
        max_k=FLAGS.max_k,
        keep_sessions_seconds=3600 * FLAGS.keep_sessions_hours,
    )


def _read(path: pathlib.Path) -> Any:
    return json.loads(path.read_text())


if __name__ == "__main__":
    cli.run(main)
