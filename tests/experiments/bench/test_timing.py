"""What is compared is measured in turns."""

import contextlib
import pathlib

import jax
import jax.numpy as jnp
import pytest

from experiments.bench import timing
from experiments.bench.timing import Settings


def test_functions_take_turns_after_a_warm_up():
    """Bug: measure all of one before the other, so that noise affects one of them only."""
    calls = []
    functions = [lambda name=name: calls.append(name) or len(calls) for name in "sf"]
    here = pathlib.Path()
    settings = Settings(3, 2, scale=1.0, steps=1, prepared=here, scratch=here)
    results = settings.turns(*functions)
    assert "".join(calls) == "sf" * 4
    assert results == [[3, 5, 7], [4, 6, 8]]


def test_long_functions_have_fewer_turns_and_no_warm_up_where_none_is_wanted():
    """Bug: count the warm-up as a turn."""
    here = pathlib.Path()
    settings = Settings(3, 2, scale=1.0, steps=1, prepared=here, scratch=here)
    calls = []
    assert settings.turns(lambda: calls.append("f"), long=True, warm_up=False) == [[None] * 2]
    assert calls == ["f"] * 2


def test_the_operations_of_a_cpu_are_those_of_the_program(tmp_path):
    """Bug: count the loop as well, whose time is that of the operations in it."""

    def body(x, _):
        return jnp.tanh(x @ x), None

    program = jax.jit(lambda x: jax.lax.scan(body, x, None, length=5)[0])
    compiled = program.lower(jnp.ones((50, 50))).compile()
    settings = Settings(1, 1, scale=1.0, steps=1, prepared=tmp_path, scratch=tmp_path)
    seconds = timing.operations(
        settings, lambda: jax.block_until_ready(compiled(jnp.ones((50, 50))))
    )
    text = compiled.as_text() or ""
    assert seconds
    assert all(duration > 0 for duration in seconds.values())
    assert any(f"%{name} = " in text for name in seconds)
    assert not [name for name in seconds if name.startswith("while")]
    assert [*tmp_path.iterdir()] == []


PROFILE = """
planes {
  name: "/device:GPU:0"
  event_metadata { key: 1 value { id: 1 name: "loop_add_fusion_3" } }
  event_metadata { key: 2 value { id: 2 name: "MemcpyD2D" } }
  lines {
    name: "Stream #13(MemcpyD2D,Compute)"
    events { metadata_id: 1 offset_ps: 0 duration_ps: 3000000 }
    events { metadata_id: 2 offset_ps: 4000000 duration_ps: 1000000 }
    events { metadata_id: 1 offset_ps: 6000000 duration_ps: 2000000 }
  }
  lines {
    name: "XLA Ops"
    events { metadata_id: 1 offset_ps: 0 duration_ps: 5000000 }
  }
}
planes {
  name: "/host:CPU"
  event_metadata { key: 1 value { id: 1 name: "PjitFunction" } }
  lines { name: "python" events { metadata_id: 1 offset_ps: 0 duration_ps: 9000000 } }
}
"""


def test_the_operations_of_a_gpu_are_the_kernels_of_its_streams(monkeypatch, tmp_path):
    """Bug: add up the derived lines too, which hold each kernel once more."""
    read = jax.profiler.ProfileData

    @contextlib.contextmanager
    def trace(folder):
        path = pathlib.Path(folder) / "machine.xplane.pb"
        path.write_bytes(read.text_proto_to_serialized_xspace(PROFILE))
        yield

    monkeypatch.setattr(jax.profiler, "trace", trace)
    settings = Settings(1, 1, scale=1.0, steps=1, prepared=tmp_path, scratch=tmp_path)
    seconds = timing.operations(settings, lambda: None)
    assert seconds == pytest.approx({"loop_add_fusion_3": 5e-6, "MemcpyD2D": 1e-6})
