"""The recorded steps and the parity with the reference hold with vectors of another width."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
TESTS = [  # of the parity tests those that together run every equation and two losses
    "test_golden.py",
    "training/test_train.py::test_training_equals_the_reference[hrnn_init-default-default]",
    "training/test_train.py::test_training_equals_the_reference[hrnn_all-carried-default]",
    "training/test_train.py::test_training_equals_the_reference[hrnn_all-default-cross_entropy]",
    "training/test_train.py::test_training_with_the_last_item_fed_equals_the_reference[0.3]",
]


def narrower_isa():
    """Return an instruction set with narrower vectors than this machine's, as XLA names it."""
    cpu = pathlib.Path("/proc/cpuinfo")
    has_avx512 = cpu.exists() and "avx512f" in cpu.read_text()
    return "AVX2" if has_avx512 else "SSE4_2"


def test_golden_and_parity_hold_with_narrower_vectors():
    """XLA sums in another order then, so that the last bits of every sum differ."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_max_isa={narrower_isa()}"
    arguments = [
        *("-q", "-x", "-n", "0", "-p", "no:cacheprovider"),  # workers would import jax twice more
        *(f"tests/hrnn_jax/{test}" for test in TESTS),
    ]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": flags.strip()},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-1000:]
