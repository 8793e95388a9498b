"""Where and with what a run was made."""

from __future__ import annotations

import datetime
import os
import pathlib
import platform
import subprocess


def made() -> dict[str, str]:
    """Return the code's commit, the machine, and the time (UTC)."""
    return {
        "commit": _commit(),
        "machine": _machine(),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _commit() -> str:
    """Return the short commit of this code, with + where it was changed since."""
    folder = str(pathlib.Path(__file__).parent)
    git = ("git", "-C", folder, "describe", "--always", "--exclude=*", "--dirty=+")
    try:
        return subprocess.check_output(git, stderr=subprocess.DEVNULL, text=True).strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"  # an installed package, not a clone


def _machine() -> str:
    import jax  # here: `cores` is asked for by commands that need no jax

    [device, *more] = jax.devices()
    if device.platform != "cpu":
        return f"{1 + len(more)} x {device.device_kind}"
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
