"""The part of a time in which programs are compiled."""

import threading
import time

import jax
import jax.numpy as jnp
import pytest

from hrnn_jax.compile_time import timing

SLOW = 0.05  # seconds that each program takes to trace


def program():
    """Return a compiled function that calls another one; tracing each takes `SLOW` seconds."""

    @jax.jit
    def inner(x):
        time.sleep(SLOW)  # when it is traced, not when it runs
        return x + 1

    @jax.jit
    def outer(x):
        time.sleep(SLOW)
        return inner(x) * 2

    return outer


def test_compiling_is_counted_once_and_only_the_first_time():
    function, x = program(), jnp.ones(3)
    with timing() as first:
        function(x).block_until_ready()
    with timing() as second:
        function(x).block_until_ready()
    # Both traces, of which the inner one is part of the outer one's time; all is within the whole.
    assert 2 * SLOW <= first.compiling <= first.seconds
    assert second.compiling == 0 < second.seconds


def test_time_beside_compiling_is_not_compiling():
    function, x = program(), jnp.ones(3)
    with timing() as took:
        function(x).block_until_ready()
        time.sleep(3 * SLOW)
    assert took.seconds - took.compiling >= 3 * SLOW


def test_what_another_thread_compiles_does_not_count():
    function, x = program(), jnp.ones(3)
    with timing() as took:
        thread = threading.Thread(target=lambda: function(x).block_until_ready())
        thread.start()
        thread.join()
    assert took.compiling == 0 < took.seconds


def test_what_fails_is_timed_and_no_longer_listened_to():
    with pytest.raises(ValueError, match="no"), timing() as took:
        raise ValueError("no")
    before = took.compiling
    program()(jnp.ones(3)).block_until_ready()
    assert took.compiling == before == 0 < took.seconds
