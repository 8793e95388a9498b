"""What a compiled program sends is read from its text."""

import pytest

from experiments.bench.mesh import compiled

TEXT = """
%sum (a: f32[], b: f32[]) -> f32[] {
  ROOT %add = f32[] add(%a, %b)
}

%body (state: (f32[8])) -> (f32[8]) {
  %first.1 = (f32[400]{0}, s32[], f32[2,100]{1,0}) all-reduce(%x, %y, %z), to_apply=%sum
  %second = f32[1,200,300]{2,0,1} reduce-scatter(%w), dimensions={1}, to_apply=%sum
  %third = f32[6]{0} all-reduce-start(%v), to_apply=%sum
  %fourth = f32[6]{0} all-reduce-done(%third)
  %use = f32[6]{0} negate(%all-gather)
}

ENTRY %main (state: (f32[8])) -> (f32[8]) {
  %gathered = pred[256,1,400]{1,0,2} all-gather(%ids), dimensions={2}
  ROOT %loop = (f32[8]) while(%state), condition=%c, body=%body
}
"""


def test_collectives_are_counted_by_the_whole_array_in_and_outside_the_loop():
    inside, outside = compiled.collectives(TEXT, 2)
    assert inside == {
        "all-reduce": [4 * (400 + 1 + 200), 24],
        "reduce-scatter": [4 * 200 * 300 * 2],
    }
    assert outside == {"all-gather": [256 * 400]}


@pytest.mark.parametrize(
    ("collective", "bytes_"), [("all-reduce", 150), ("reduce-scatter", 75), ("all-gather", 75)]
)
def test_a_ring_sends_what_is_not_there(collective, bytes_):
    """Of 100 bytes on 4 devices; an all-reduce is a reduce-scatter and an all-gather."""
    assert compiled.sent(collective, 100, 4) == bytes_
