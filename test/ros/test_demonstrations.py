"""Bridge, demonstrator and recorder together: what a recording session is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from bags import read

COMMAND_PERIOD = 5_000_000
COMMANDS_PER_STEP = 7


def record(graph, path: Path, episodes: int, seed: int) -> list[tuple[str, int, object]]:
    """Record demonstrations and return the messages of the bag."""
    bridge = graph.start('mujoco_bridge', command_rate=200.0)
    recorder = graph.start('recorder', output=path)
    demonstrator = graph.start('demonstrator', episodes=episodes, seed=seed, recorder='recorder')
    assert demonstrator.wait() == 0, demonstrator.text
    assert recorder.stop() == 0
    assert bridge.stop() == 0
    return read(path)


def values(message: object) -> dict[str, str]:
    """Return the values of an episode event."""
    return {item.key: item.value for item in message.status[0].values} | {'kind': message.status[0].message}


def test_a_session_leaves_a_bag_of_whole_episodes_with_their_outcomes(graph, tmp_path):
    bag = record(graph, tmp_path / 'bag', episodes=3, seed=0)
    events = [values(message) for topic, _, message in bag if topic == '/episode']
    assert [event['kind'] for event in events] == ['start', 'end'] * (len(events) // 2)
    ends = events[1::2]
    assert sum(event['outcome'] == 'success' for event in ends) == 3
    assert all(event['way'] for event in ends if event['outcome'] == 'success')

    newest = start = None
    commands = 0
    for topic, stamp, message in bag:
        if topic == '/episode':
            event = values(message)
            if event['kind'] == 'end':
                assert -(-commands // COMMANDS_PER_STEP) == int(event['steps'])
            start, commands = stamp, 0
        elif topic == '/joint_states':
            assert stamp == message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
            newest = stamp
        else:
            # Each command belongs to the tick that it answers: the stamp of the newest state, a multiple of the period.
            assert stamp == newest == start + commands * COMMAND_PERIOD
            assert np.isfinite(message.data).all()
            commands += 1


def episode(bag: list[tuple[str, int, object]]) -> list[tuple[str, int, bytes]]:
    """Return all that was published from the first start to before the first end, to the last bit.

    The demonstrator answers the state that ends the episode, too: that command may come before the mark or after it.
    """
    marks = [index for index, (topic, _, _) in enumerate(bag) if topic == '/episode']
    end = bag[marks[1]][1]
    return [
        (topic, stamp, (message.data if topic.endswith('/commands') else message.position).tobytes())
        for topic, stamp, message in bag[marks[0] + 1 : marks[1]]
        if stamp < end
    ]


def test_one_seed_gives_one_session_to_the_last_bit(graph, tmp_path):
    first, second = (episode(record(graph, tmp_path / name, episodes=1, seed=3)) for name in ('first', 'second'))
    assert len(first) > 100
    assert first == second


def test_a_demonstrator_without_a_bridge_gives_up_and_says_what_is_missing(graph):
    demonstrator = graph.start('demonstrator', timeout=1.0)
    assert demonstrator.wait() == 2
    assert 'without joint states, a listener on the commands, ~/reset of mujoco_bridge; start' in demonstrator.text
    assert len([line for line in demonstrator.text.splitlines() if 'FATAL' in line]) == 1
