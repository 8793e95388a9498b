"""Where and with what a run was made."""

from __future__ import annotations

import datetime
import os
import pathlib
import platform
import subprocess

import hrnn_jax

BUILT_FROM = "commit.txt"  # in hrnn_jax/ of a built package: setup.py writes it


def made() -> dict[str, str]:
    """Return the version and the commit of the code, the machine, and the time (UTC).

    "device" is what computes there: cpu or gpu.
    """
    import jax  # here: `cores` is asked for by commands that need no jax

    [device, *more] = jax.devices()
    on_cpu = device.platform == "cpu"
    return {
        "version": hrnn_jax.__version__,
        "commit": commit(),
        "machine": _processor() if on_cpu else f"{1 + len(more)} x {device.device_kind}",
        "device": device.platform,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def commit() -> str:
    """Return the short commit of this code; unknown where nothing tells it.

    In a checkout it is git's, with + where the code was changed since. An installed package has
    the one that it was built from: the repository around an environment is somebody else's.
    """
    here = pathlib.Path(__file__).resolve()
    package, root = here.parents[1:3]
    built = package / BUILT_FROM
    if built.is_file():
        return built.read_text().strip() or "unknown"
    return _of_repository(root, here) or "unknown"


def _of_repository(root: pathlib.Path, file: pathlib.Path) -> str:
    """Return the commit of the repository at a root; "" where it is none, or lacks the file."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env["GIT_CEILING_DIRECTORIES"] = str(root.parent)  # git looks no further up
    has_file = ("ls-files", "--error-unmatch", str(file))
    describe = ("describe", "--always", "--exclude=*", "--dirty=+")
    said = ""
    try:
        for command in (has_file, describe):
            git = ("git", "-C", str(root), *command)
            said = subprocess.run(git, env=env, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return said.strip()


def _processor() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (info.read_text().splitlines() if info.exists() else ())
        if line.startswith("model name")
    ]
    name, n = names[0] if names else platform.machine(), cores()
    return f"{name}, {n} core{'s' if n > 1 else ''}"


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
