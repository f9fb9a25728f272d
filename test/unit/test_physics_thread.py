"""Physics that was held up is caught up, and its due times advance by the simulated time."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from vdd_ros.nodes.bridge.physics_thread import PhysicsThread

pytestmark = pytest.mark.realtime

CHUNK, STALL, CHUNKS = 0.005, 0.1, 60


def test_chunks_that_are_caught_up_are_due_at_even_times():
    due, ran, done = [], [], threading.Event()

    def advance():
        due.append(thread.due)
        ran.append(time.monotonic())
        if len(due) == 20:
            time.sleep(STALL)
        if len(due) == CHUNKS:
            done.set()

    thread = PhysicsThread(CHUNK, 1.0, advance)
    thread.start()
    assert done.wait(30)
    thread.stop()
    assert np.diff(ran).max() > 0.9 * STALL  # the stall, and then chunks in quick succession
    assert np.median(np.diff(ran)[20:30]) < CHUNK / 2
    np.testing.assert_allclose(np.diff(due[:CHUNKS]) / 1e9, CHUNK, atol=0.4 * CHUNK)


def test_nothing_is_due_before_the_physics_begins():
    thread = PhysicsThread(CHUNK, 1.0, lambda: None)
    assert abs(thread.due - time.time_ns()) < 1e9
