"""Bridge, demonstrator and recorder together: what a recording session is."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest
from bags import read
from diagnostic_msgs.msg import DiagnosticArray

from vdd_ros.commands.cli import main
from vdd_ros.nodes import messages, qos

COMMAND_PERIOD = 5_000_000
COMMANDS_PER_STEP = 7


def record(graph, path: Path, episodes: int, seed: int) -> list[tuple[str, int, object]]:
    """Record demonstrations and return the messages of the bag."""
    bridge = graph.start('mujoco_bridge', command_rate=200.0)
    recorder = graph.start('recorder', output=path, lockstep=True)
    demonstrator = graph.start('demonstrator', episodes=episodes, seed=seed, recorder='recorder')
    assert demonstrator.wait() == 0, demonstrator.text
    assert recorder.stop() == 0
    assert bridge.stop() == 0
    return read(path)


def record_with_stops(graph, path: Path, episodes: int, seed: int, seconds: float) -> list[tuple[str, int, object]]:
    """Record as `record`, while the recorder stands still for a time after the start of every episode [s]."""
    bridge = graph.start('mujoco_bridge', command_rate=200.0)
    recorder = graph.start('recorder', output=path, lockstep=True)
    starts: list[int] = []

    def on_mark(message: DiagnosticArray) -> None:
        event = messages.from_episode(message)
        if event.kind == 'start':
            recorder.send(signal.SIGSTOP)
            starts.append(event.index)

    graph.node('watch').create_subscription(DiagnosticArray, 'episode', on_mark, qos.EPISODE)
    demonstrator = graph.start('demonstrator', episodes=episodes, seed=seed, recorder='recorder')
    continued = 0
    while demonstrator.alive:
        graph.until(lambda: len(starts) > continued or not demonstrator.alive)
        resumes = time.monotonic() + seconds
        graph.until(lambda moment=resumes: time.monotonic() > moment)
        continued = len(starts)
        recorder.send(signal.SIGCONT)
    assert demonstrator.wait() == 0, demonstrator.text
    assert recorder.stop() == 0, recorder.text
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
    assert all(event['mode'] for event in ends if event['outcome'] == 'success')

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


def whole_episodes(bag: list[tuple[str, int, object]]) -> list[list[tuple[str, int, bytes]]]:
    """Return all that was published from each start to before its end, to the last bit, with stamps from the start.

    The demonstrator answers the state that ends the episode, too: that command may come before the mark or after it.
    A bridge that waits for a command publishes the last state again: it is returned once.
    """
    marks = [index for index, (topic, _, _) in enumerate(bag) if topic == '/episode']
    found = []
    for first, last in zip(marks[::2], marks[1::2]):
        start, end = bag[first][1], bag[last][1]
        rows = [
            (topic, stamp - start, (message.data if topic.endswith('/commands') else message.position).tobytes())
            for topic, stamp, message in bag[first + 1 : last]
            if stamp < end
        ]
        found.append([row for place, row in enumerate(rows) if row[0] != '/joint_states' or row not in rows[:place]])
    return found


def test_one_seed_gives_one_session_to_the_last_bit(graph, tmp_path):
    first, second = (whole_episodes(record(graph, tmp_path / name, episodes=1, seed=3)) for name in ('first', 'second'))
    assert len(first[0]) > 100
    assert first == second


def failing_task(folder: Path, verdict: str) -> Path:
    """Write a task like Avoiding whose success detector has one verdict, and a time limit of three periods."""
    file = folder / 'never.py'
    file.write_text(
        'from vdd_ros.sim.tasks import SuccessDetector\n'
        'from vdd_ros.sim.tasks.avoiding.task import Avoiding\n'
        'class Never(SuccessDetector):\n'
        f'    def judge(self, simulation):\n        return "{verdict}"\n'
        'class TASK(Avoiding):\n    name = "never"\n    max_steps = 3\n'
        '    def new_success_detector(self):\n        return Never()\n'
    )
    return file


@pytest.mark.parametrize(
    ('verdict', 'cause'),
    [('failure', 'the success detector returned failure'), ('running', 'no success within the time limit of 0.105 s')],
)
def test_recording_ends_with_the_cause_if_no_demonstration_succeeds(tmp_path, capsys, verdict, cause):
    command = ['record', '--task', str(failing_task(tmp_path, verdict)), '--output', str(tmp_path / 'bag')]
    assert main(command) == 2
    reported = ' '.join(capsys.readouterr().err.split())
    assert reported.count('expected') == 1 and 'a successful demonstration of never within 20' in reported
    assert f'found 20 failures and 0 successes: {cause} (20); correct the demonstrator' in reported
    ends = [values(message) for topic, _, message in read(tmp_path / 'bag') if topic == '/episode'][1::2]
    # The last mark may arrive after the end of the recording.
    assert len(ends) in (19, 20) and {event['outcome'] for event in ends} == {'failure'}


def test_a_recorder_that_stands_still_records_the_same_session(graph, tmp_path):
    """A recorder on a busy machine gets no time for a while: no message is lost, late or in another episode."""
    expected = whole_episodes(record(graph, tmp_path / 'free', episodes=2, seed=3))
    found = whole_episodes(record_with_stops(graph, tmp_path / 'stopped', episodes=2, seed=3, seconds=3.0))
    assert [len(rows) for rows in found] == [len(rows) for rows in expected]
    assert found == expected


def test_a_demonstrator_without_a_bridge_gives_up_and_lists_what_is_missing(graph):
    demonstrator = graph.start('demonstrator', timeout=1.0)
    assert demonstrator.wait() == 2
    missing = 'without joint states, a subscriber on arm_controller/commands, ~/reset of mujoco_bridge; start'
    assert missing in demonstrator.text
    assert len([line for line in demonstrator.text.splitlines() if 'FATAL' in line]) == 1
