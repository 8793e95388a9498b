"""Serve recommendations from a run folder: JSON over HTTP, and a page to look at them.

python -m experiments.serve                     # the newest run of a network
python -m experiments.serve --run=RUN_FOLDER
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import signal
import socket
import sys
import time

from absl import flags

from hrnn_jax.config import RecommenderConfig, setting, settings
from hrnn_jax.errors import InputError, reason

from .common import cli, compile_cache, config_flags, interrupt, run_flags

_IMPORTED = time.time()  # for systems that do not tell when the process began


@dataclasses.dataclass(frozen=True)
class ServeFlags:
    """The flags of this command, but for --run and --seed.

    Attributes:
        states: The file of the users' states; by default states.sqlite in --run. Or a database that
            several services share, as postgresql://USER@HOST:PORT/DATABASE.
        host: The address to listen at; by default only this machine reaches it.
        port: The port to listen at; 0 takes a free one.
        allowed_hosts: Names by which the service may be called, such as the domain that a proxy
            passes on; any port fits. By default localhost, 127.0.0.1 and [::1], if the service
            listens to this machine only, else any.
        token_file: A file with a bearer token that every request needs but those for the page,
            /health and /docs. HRNN_JAX_TOKEN in the environment may hold it instead. By default no
            token is needed.
        max_body_kib: The largest body of a request, in KiB.
        max_k: The longest list of recommendations.
        rebuild_states: Compute the states again from the stored events, if they belong to other
            weights.
        reload_runs: A folder with run folders at any depth, as out/runs: POST /reload may name any
            of them. By default it, and SIGHUP, read --run again.
        keep_sessions_hours: Anonymous sessions are deleted after so many hours without an event.
        history: The users' history, imported at the first start: a log, read and cut into sessions
            as the run's was, or a prepared folder; none if empty. By default the sessions that the
            run was trained and tested on, and those of the users whom its filters dropped, if its
            log is at hand.
        items: A .csv or .parquet file with the columns item_id and title and, if there are any,
            image and url: what answers and the page say of items besides their ids.
        image_hosts: The hosts from which the page may load the pictures of --items, such as
            images.example.com or *.example.com. By default it loads none.
    """

    states: str | None = setting(None, is_path=True)
    host: str = setting("127.0.0.1")
    port: int = setting(8000, least=0, most=65535)
    allowed_hosts: tuple[str, ...] = setting(())
    token_file: str | None = setting(None, is_path=True)
    max_body_kib: int = setting(1024, least=1)
    max_k: int = setting(1000, least=1)
    rebuild_states: bool = setting(False)
    reload_runs: str | None = setting(None, is_path=True)
    keep_sessions_hours: float = setting(720.0, least=0)
    history: str | None = setting(None)
    items: str | None = setting(None, is_path=True)
    image_hosts: tuple[str, ...] = setting(())


FLAGS = flags.FLAGS
config_flags.define_command(ServeFlags)
config_flags.define({RecommenderConfig: "command"})


def main() -> None:
    """Serve until a signal comes: SIGTERM, or that of ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _serve()
    except KeyboardInterrupt:
        print("stopped", flush=True)
        sys.stderr.flush()
        os._exit(0)  # all is closed, but XLA may compile in its threads: Python's end would crash


def _serve() -> None:
    run = run_flags.folder()
    token = _token()
    config = RecommenderConfig(
        **{name: getattr(FLAGS, name) for name in settings(RecommenderConfig)}
    )
    with _listen() as listener:
        # Here: flags are checked before jax is loaded, and requests that come until then wait.
        with cli.extra("serve"), interrupt.importing():
            from .serving import service
        compile_cache.keep()
        service.serve(run, listener, config, token=token, begun=_IMPORTED)


def _token() -> bytes | None:
    where, token = "HRNN_JAX_TOKEN", os.environ.get("HRNN_JAX_TOKEN")
    if FLAGS.token_file:
        where = f"--token_file={FLAGS.token_file}"
        try:
            token = pathlib.Path(FLAGS.token_file).read_text("utf-8", "surrogateescape")
        except OSError as error:
            raise InputError(
                f"{where}: {reason(error)}; give a file with one token that can be read"
            ) from error
        if not token.strip():
            raise InputError(f"{where} is empty: write a token")
    if token is None:
        return None
    token = token.strip()
    if not token:
        raise InputError(f"{where} is set but blank: write a token into it, or unset it")
    if not re.fullmatch("[!-~]+", token):  # no client could send it
        raise InputError(
            f"{where}: a token is one word of ASCII letters, digits and signs, without spaces and "
            "line breaks: write such a one"
        )
    return token.encode()


def _listen() -> socket.socket:
    family = socket.AF_INET6 if ":" in FLAGS.host else socket.AF_INET
    try:
        return socket.create_server((FLAGS.host, FLAGS.port), family=family, backlog=2048)
    except OSError as error:
        raise InputError(
            f"cannot listen at --host={FLAGS.host} --port={FLAGS.port} ({error.strerror}): give "
            "others; --port=0 takes a free one"
        ) from error


if __name__ == "__main__":
    cli.run(main)
