"""Serve recommendations from a run folder: JSON over HTTP, and a page to look at them.

python -m experiments.serve                     # the newest run of a network
python -m experiments.serve --run=RUN_FOLDER
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

from absl import flags

from hrnn_jax.checkpoint import load_run
from hrnn_jax.config import RecommenderConfig, settings
from hrnn_jax.errors import InputError
from hrnn_jax.live.recommender import STATES, Recommender

from .common import cli, compile_cache, config_flags, run_flags, run_folder

with cli.extra("serve"):
    import uvicorn

    from .serving import import_history
    from .serving.app import Settings, build
    from .serving.batcher import Batcher
    from .serving.prometheus import ServiceMetrics

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "states", None, "The file of the users' states; by default states.sqlite in --run."
)
flags.DEFINE_string(
    "host", "127.0.0.1", "The address to listen at; by default only this machine reaches it."
)
flags.DEFINE_integer(
    "port", 8000, "The port to listen at; 0 takes a free one.", lower_bound=0, upper_bound=65535
)
flags.DEFINE_string(
    "token_file",
    None,
    "A file with a bearer token that every request except those of the page needs. "
    "HRNN_JAX_TOKEN in the environment may hold it instead. By default no token is needed.",
)
flags.DEFINE_integer("max_body_kib", 1024, "The largest body of a request, in KiB.", lower_bound=1)
flags.DEFINE_integer("max_k", 1000, "The longest list of recommendations.", lower_bound=1)
config_flags.define(RecommenderConfig)
flags.DEFINE_bool(
    "rebuild_states",
    False,
    "Compute the states again from the stored events, if they belong to other weights.",
)
flags.DEFINE_float(
    "keep_sessions_hours",
    720,
    "Anonymous sessions are deleted after so many hours without an event.",
    lower_bound=0,
)
flags.DEFINE_string(
    "history",
    None,
    "The users' history, imported at the first start: a log with the columns of the run's log, or "
    "a prepared folder. By default the one that the run was trained on, if it still exists; none "
    "if empty.",
)
_IMPORTED = time.time()  # for systems that do not tell when the process began
_SHUTDOWN_SECONDS = 30  # for requests that are not yet answered when the service has to stop


def main() -> None:
    """Serve until a signal comes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    run = run_flags.folder()
    token = _token()
    compile_cache.keep()
    with contextlib.ExitStack() as stack:
        # Listen before the network is loaded: requests that come until then wait.
        listener = stack.enter_context(_listen())
        recommender = stack.enter_context(_recommender(run))
        recommender.warm_up()
        metrics = ServiceMetrics()
        begun = metrics.registry.get_sample_value("process_start_time_seconds") or _IMPORTED
        batcher = stack.enter_context(contextlib.closing(Batcher(recommender, metrics)))
        app = build(batcher, metrics, _settings(run, token))
        host, port = listener.getsockname()[:2]
        if not token and not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
            print(
                "anyone who reaches this machine may read and write: see --token_file", flush=True
            )
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        )
        gc.collect()
        gc.freeze()  # collections that pass over the loaded network would delay requests
        seconds = time.time() - begun
        print(f"ready in {seconds:.1f} s at {url}, its API at {url}/docs", flush=True)
        uvicorn.Server(config).run([listener])


def _token() -> bytes | None:
    token = os.environ.get("HRNN_JAX_TOKEN", "")
    if FLAGS.token_file:
        try:
            token = pathlib.Path(FLAGS.token_file).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--token_file={FLAGS.token_file}: {error}") from error
        if not token.strip():
            raise InputError(f"--token_file={FLAGS.token_file} is empty: write a token")
    return token.strip().encode() or None


def _listen() -> socket.socket:
    family = socket.AF_INET6 if ":" in FLAGS.host else socket.AF_INET
    try:
        return socket.create_server((FLAGS.host, FLAGS.port), family=family, backlog=2048)
    except OSError as error:
        raise InputError(
            f"cannot listen at --host={FLAGS.host} --port={FLAGS.port} ({error.strerror}): give "
            "others; --port=0 takes a free one"
        ) from error


def _recommender(run: pathlib.Path) -> Recommender:
    """Load the network and the states; import the history if there is no state file yet."""
    path = pathlib.Path(FLAGS.states or run / STATES)
    config = RecommenderConfig(
        **{name: getattr(FLAGS, name) for name in settings(RecommenderConfig)}
    )
    network = load_run(run, seed=FLAGS.seed)
    if not path.exists():
        history = import_history.find(run) if FLAGS.history is None else FLAGS.history
        if history:
            events = import_history.read(pathlib.Path(history), _data(run))
            print(import_history.write_states(path, network, events, config), flush=True)
    return Recommender(*network, path, rebuild=FLAGS.rebuild_states, config=config)


def _settings(run: pathlib.Path, token: bytes | None) -> Settings:
    data = _data(run)
    metrics = run_folder.read_metrics(run)  # None while the run trains
    return Settings(
        model=metrics["name"] if metrics else run_folder.read_recipe(run)["model"]["name"],
        data=metrics["title"] if metrics else data["source"]["path"],
        simulated=data["data"] == "simulated",
        given_sessions=data["columns"]["session"] is not None,
        token=token,
        max_body_bytes=1024 * FLAGS.max_body_kib,
        max_k=FLAGS.max_k,
        keep_sessions_seconds=3600 * FLAGS.keep_sessions_hours,
    )


def _data(run: pathlib.Path) -> dict:
    return json.loads((run / run_folder.DATA).read_text())


if __name__ == "__main__":
    cli.run(main)
