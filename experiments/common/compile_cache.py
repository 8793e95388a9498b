"""Keep compiled programs on disk: what one command compiles, the next one loads."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import platform
import warnings

from absl import flags

from hrnn_jax.config import setting

from . import config_flags, interrupt


@dataclasses.dataclass(frozen=True)
class CacheFlags:
    """Where compiled programs are kept.

    Attributes:
        compilation_cache: The folder that keeps compiled programs, so that the next start loads
            them; none if empty. JAX_COMPILATION_CACHE_DIR in the environment overrides it.
    """

    compilation_cache: str = setting("out/compiled")


FLAGS = flags.FLAGS
config_flags.define_command(CacheFlags, "output")
WORTH_SECONDS = 0.1  # programs that compile faster are not kept


def keep() -> None:
    """Keep compiled programs from here on, and use those that are kept already."""
    with interrupt.importing():
        import jax  # here: the flags of a command are checked before jax is loaded

    # pyright does not know this attribute: jax adds it at run time.
    kept_already = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if FLAGS.compilation_cache and kept_already is None:
        cache = folder(pathlib.Path(FLAGS.compilation_cache))
        jax.config.update("jax_compilation_cache_dir", str(cache))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", WORTH_SECONDS)
    # A folder that cannot be written or a damaged file costs no more than compiling.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")


def folder(root: pathlib.Path) -> pathlib.Path:
    """Return the folder for this machine: a program may use any instruction that its CPU has."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    instructions = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    machine = f"{platform.machine()} {platform.processor()} {instructions}"
    return root.absolute() / hashlib.sha256(machine.encode()).hexdigest()[:8]
