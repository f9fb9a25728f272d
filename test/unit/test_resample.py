"""What stands for a stream at a tick: causal, exact, and never too old."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdd_ros.contract.features import Alignment
from vdd_ros.data.decode.resample import aligned

ALIGNMENTS = [
    Alignment(),
    Alignment(max_age=5e-9),
    Alignment(latency=3e-9),
    Alignment(method='interpolate', delay=4e-9),
    Alignment(method='interpolate', delay=4e-9, latency=2e-9, max_age=6e-9),
    Alignment(method='nearest', tolerance=3e-9),
    Alignment(method='nearest', tolerance=3e-9, delay=4e-9, max_age=7e-9),
]
stamps = st.lists(st.integers(0, 40), max_size=15).map(sorted)


def column(stamp_list: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Messages whose number says which they are."""
    return np.array(stamp_list, dtype=np.int64), np.arange(len(stamp_list), dtype=np.float64)[:, None] ** 2


@given(stamps, st.integers(0, 45), st.sampled_from(ALIGNMENTS), st.booleans())
def test_what_comes_after_a_tick_changes_nothing(stamp_list, tick, alignment, inclusive):
    ticks = np.array([tick])
    whole = aligned(*column(stamp_list), ticks, alignment, inclusive=inclusive)
    times, values = column(stamp_list)
    known = times <= tick
    cut = aligned(times[known], values[known], ticks, alignment, inclusive=inclusive)
    assert whole[0].tobytes() == cut[0].tobytes() and whole[1] == cut[1]


@given(stamps, st.lists(st.integers(0, 45), min_size=2, max_size=9), st.sampled_from(ALIGNMENTS))
def test_many_ticks_at_once_and_one_after_the_other_give_the_same_bits(stamp_list, ticks, alignment):
    ticks = np.array(ticks)
    together = aligned(*column(stamp_list), ticks, alignment)
    alone = [aligned(*column(stamp_list), ticks[place : place + 1], alignment) for place in range(len(ticks))]
    assert together[0].tobytes() == b''.join(found.tobytes() for found, _ in alone)
    assert together[1].tolist() == [bool(stale[0]) for _, stale in alone]


@pytest.mark.parametrize(
    ('alignment', 'tick', 'expected'),
    [
        (Alignment(), 15, 1.0),
        (Alignment(max_age=5e-9), 15, 1.0),
        (Alignment(max_age=4e-9), 15, None),
        (Alignment(latency=6e-9), 15, 0.0),
        (Alignment(), -1, None),
        (Alignment(method='interpolate', delay=5e-9), 20, 2.5),  # half-way between 1 and 4
        (Alignment(method='interpolate', delay=5e-9), 19, 1.0),  # the next one is not there yet
        (Alignment(method='interpolate', delay=5e-9, max_age=9e-9), 20, None),  # the gap is too wide, and 10 too old
        (Alignment(method='interpolate', delay=5e-9), 2, None),
        (Alignment(method='nearest', tolerance=4e-9, delay=6e-9), 20, 1.0),  # 14 is nearer to 10
        (Alignment(method='nearest', tolerance=4e-9, delay=4e-9), 20, 4.0),  # 16 is nearer to 20
        (Alignment(method='nearest', tolerance=4e-9, delay=4e-9), 19, None),  # 15: 20 is not there yet, 10 too far
    ],
)
def test_three_messages_by_hand(alignment, tick, expected):
    found, stale = aligned(*column([0, 10, 20]), np.array([tick]), alignment)
    assert stale.tolist() == [expected is None]
    assert found[0, 0] == (expected or 0.0)


def test_a_command_stamped_at_a_tick_is_not_yet_known():
    ticks = np.array([10])
    assert aligned(*column([0, 10]), ticks, Alignment(), inclusive=False)[0][0, 0] == 0.0
    assert aligned(*column([0, 10]), ticks, Alignment())[0][0, 0] == 1.0
