"""Check this project on a GPU, and measure it there, in ten minutes.

    make check-gpu                 # installs JAX with CUDA into .venv-gpu, then all of the below
    make check-gpu DEVICE=cpu      # the same in small sizes on a CPU, from .venv

The recorded training steps of the authors' code are reproduced on the device, with products in full
float32. Then the benchmark's parts of a GPU are measured, as JAX multiplies by default, one after
the other as far as the time reaches, and their rows are added to --gpu_record.

The exit code is 1 where the recorded steps are not reproduced or a part fails.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import subprocess
import sys
import time

from absl import flags

from hrnn_jax import errors
from hrnn_jax.config import setting

from .bench import record
from .common import cli, config_flags
from .common.text import duration

ROOT = pathlib.Path(__file__).parents[1]
SCRATCH = pathlib.Path("out/check_gpu")  # keeps compiled programs
GOLDEN = "tests/hrnn_jax/test_golden.py"
FULL = {"repeats": 5, "long_repeats": 3, "scale": 1.0, "steps": 1_024}
TRIAL = {"repeats": 1, "long_repeats": 1, "scale": 0.01, "steps": 1}


@dataclasses.dataclass(frozen=True)
class CheckGpuFlags:
    """The flags of this command.

    Attributes:
        device: The platform of JAX to check; cpu is for trying the check out.
        trial: Small sizes, which a CPU computes in some minutes, to see that every part runs.
        minutes: The time after which nothing more is measured.
        began: The Unix time from which the minutes count, for what was done before, such as to
            install; now if 0.
        gpu_record: The file that collects the rows, as the benchmark's --record_file does.
    """

    device: str = setting("cuda", choices=("cuda", "cpu"))
    trial: bool = setting(False)
    minutes: float = setting(10.0, least=0)
    began: float = setting(0.0, least=0)
    gpu_record: str = setting(str(SCRATCH / "benchmark.json"))


FLAGS = flags.FLAGS
config_flags.define_command(CheckGpuFlags)


def main() -> None:
    """Check and measure, and print a summary."""
    import jax  # here and below: the flags are checked before jax is loaded

    from .bench import gpu

    spent = time.time() - FLAGS.began if FLAGS.began else 0
    until = time.monotonic() + 60 * FLAGS.minutes - spent
    device = find_device(FLAGS.device)
    path = pathlib.Path(FLAGS.gpu_record)
    if path.exists():
        record.read(path)  # a damaged record is reported before anything is measured
    print(f"JAX {jax.__version__} on {device}, {_left(until)}", flush=True)
    print(f"1 of {1 + len(gpu.PARTS)}: recorded steps", flush=True)
    reproduced = reproduce_golden_steps()
    rows, problems = measure(path, until)
    print()
    record.print_table(rows)
    print(f"\n{path}")
    print(
        f"recorded steps: {'reproduced' if reproduced else 'NOT REPRODUCED'}", *problems, sep="\n"
    )
    if not reproduced or any(problem.startswith("failed") for problem in problems):
        sys.exit(1)


def find_device(platform: str) -> str:
    """Return the kind of a platform's device, which this process and its own will use.

    Raises:
        InputError: There is none.
    """
    import jax

    os.environ["JAX_PLATFORMS"] = platform
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the parts have processes of their own
    jax.config.update("jax_platforms", platform)
    try:
        return jax.devices(platform)[0].device_kind
    except (RuntimeError, AssertionError) as error:  # the latter where no plugin knows the platform
        reason = str(error) or "JAX has no such device here"
        raise errors.InputError(f"no GPU found (`device`={platform}): {reason}") from error


def reproduce_golden_steps() -> bool:
    """Run the tests of the recorded steps on the device, in a process of their own."""
    if not (ROOT / GOLDEN).exists():
        raise errors.InputError(f"{ROOT / GOLDEN} is missing: check_gpu needs a checkout")
    # "highest": tensor cores would round the factors of products to 10 bits. Warnings are no errors
    # here: those of a driver or of CUDA say nothing about the steps.
    plain = ["-n", "0", "-p", "no:cacheprovider", "-W", "default"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plain, GOLDEN],
        cwd=ROOT,
        env={**os.environ, "JAX_DEFAULT_MATMUL_PRECISION": "highest"},
        stdin=subprocess.DEVNULL,
    )
    return done.returncode == 0


def measure(path: pathlib.Path, until: float) -> tuple[list[record.Row], list[str]]:
    """Measure the parts while there is time, and keep each row as soon as it is there.

    Args:
        path: The record.
        until: The value of `time.monotonic` at which to stop.

    Returns:
        The rows, and a line on each part that is not complete.
    """
    from .bench import gpu, timing

    sizes = TRIAL if FLAGS.trial else FULL
    settings = timing.Settings(**sizes, prepared=SCRATCH, scratch=SCRATCH)
    rows: list[record.Row] = []
    problems: list[str] = []
    for number, part in enumerate(gpu.PARTS, start=2):
        print(f"{number} of {1 + len(gpu.PARTS)}: {part}, {_left(until)}", flush=True)
        made = timing.made()
        try:
            for name, row in gpu.measure(part, settings, until):
                record.add(path, {f"gpu/{name}": row}, made)
                settings.print("  ".join(filter(None, row.cells())))
                rows.append(row)
        except TimeoutError as error:
            problems.append(
                f"not complete: {error}; repeat the command, compiled programs are kept"
            )
        except errors.InputError as error:
            problems.append(f"failed: {error}")
    return rows, problems


def _left(until: float) -> str:
    return f"{duration(max(0, until - time.monotonic()))} left"


if __name__ == "__main__":
    cli.run(main, whole=False, hint=": what was measured is kept")
