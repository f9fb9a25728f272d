"""Policy node and bridge, each in a process of its own, judged by the validator."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from arms import tool
from bags import read
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger
from students import save_student

from vdd_ros.nodes import messages, qos

INTO_THE_FIRST_POST = [[0.0, 0.01]]


def roll_out(graph, folder: Path, artifact: Path, episodes: int) -> list[dict]:
    """Let a student drive the arm and return the outcomes."""
    processes = [
        graph.start('mujoco_bridge'),
        graph.start('policy_node', artifact=artifact),
        graph.start('recorder', output=folder / 'bag'),
    ]
    person = graph.node('person')
    change = person.create_client(ChangeState, 'policy_node/change_state')
    graph.until(change.service_is_ready)
    graph.until(change.call_async(ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))).done)
    # The bridge and the recorder: all that follows is over before a recorder that came late had subscribed.
    graph.until(lambda: person.count_subscribers('/arm_controller/commands') == 2)
    validator = graph.start('validator', use_sim_time=False, episodes=episodes, output=folder / 'outcomes.json')
    assert validator.wait() == 0, validator.text
    assert [process.stop() for process in processes] == [0, 0, 0]
    return json.loads((folder / 'outcomes.json').read_text())['episodes']


def test_a_student_drives_the_arm_in_lockstep_and_each_episode_starts_afresh(graph, tmp_path):
    artifact = save_student(tmp_path / 'student', INTO_THE_FIRST_POST)
    outcomes = roll_out(graph, tmp_path, artifact, episodes=4)
    assert [outcome['outcome'] for outcome in outcomes] == ['failure'] * 4
    assert len({outcome['steps'] for outcome in outcomes}) == 1

    bag = read(tmp_path / 'bag')
    starts = [stamp for topic, stamp, message in bag if topic == '/episode' and message.status[0].message == 'start']
    first_commands = [
        next(message.data.tolist() for topic, stamp, message in bag if topic.endswith('/commands') and stamp == start)
        for start in starts[-3:]  # the recorder may not have found everybody by the first
    ]
    assert first_commands[0] == first_commands[1] == first_commands[2]


def test_a_validator_without_a_policy_names_its_peer(graph, tmp_path):
    graph.start('mujoco_bridge')
    output = tmp_path / 'outcomes.json'
    validator = graph.start('validator', use_sim_time=False, timeout=1.0, output=output)
    assert validator.wait() == 2
    assert 'expected the service' in validator.text
    assert 'policy_node/get_state' in validator.text
    assert not output.exists()


class Side:
    """One of two arms in namespaces, as closed_loop.launch.py starts it in each of them."""

    def __init__(self, graph, namespace: str, artifact: Path) -> None:
        """Start bridge, policy node and validator, and listen."""
        names = {'__ns': f'/{namespace}', '/clock': 'clock', '/tf': 'tf'}
        bridge = graph.start('mujoco_bridge', names=names)
        policy = graph.start('policy_node', names=names, artifact=artifact)
        self.loop = graph.start('validator', names={'__ns': f'/{namespace}'}, use_sim_time=False, episodes=0)
        self.processes = [self.loop, policy, bridge]
        self._graph, self._namespace = graph, namespace
        self.node = graph.node(f'person_{namespace}')
        self.commands: list[np.ndarray] = []
        self.events: list[messages.EpisodeEvent] = []
        topic = f'/{namespace}/arm_controller/commands'
        self.node.create_subscription(
            Float64MultiArray, topic, lambda message: self.commands.append(np.array(message.data)), qos.COMMANDS
        )
        self.node.create_subscription(
            DiagnosticArray,
            f'/{namespace}/episode',
            lambda message: self.events.append(messages.from_episode(message)),
            qos.EPISODE,
        )

    @property
    def done(self) -> int:
        """How many episodes were counted."""
        return max(map(int, re.findall(r'rollouts: done=(\d+) of=endless', self.loop.text)), default=0)

    def ask(self, service: str) -> None:
        """Call a service of a node in the namespace, which must agree."""
        client = self.node.create_client(Trigger, f'/{self._namespace}/{service}')
        self._graph.until(client.service_is_ready)
        future = client.call_async(Trigger.Request())
        self._graph.until(future.done)
        assert future.result().success, future.result().message
        self.node.destroy_client(client)


def test_two_arms_in_namespaces_go_on_and_on_each_until_an_operator_holds_it(graph, tmp_path):
    sides = {
        name: Side(graph, name, save_student(tmp_path / name, [[0.0, step]]))
        for name, step in (('left', 0.01), ('right', -0.002))
    }
    left, right = sides.values()
    statuses: dict[str, str] = {}
    left.node.create_subscription(
        DiagnosticArray,
        '/diagnostics',
        lambda message: statuses.update({each.name: each.hardware_id for each in message.status}),
        qos.DIAGNOSTICS,
    )
    # Episode follows episode, and each arm has its own policy, clock and name in the diagnostics.
    graph.until(lambda: left.done >= 2)
    assert 'rollouts: done=2 of=endless successes=0' in left.loop.text
    graph.until(lambda: min(len(side.commands) for side in (left, right)) > 10)
    for side, direction in ((left, 1), (right, -1)):
        aside = direction * tool(np.array(side.commands))[:, 1]
        assert np.ptp(aside) > 0.005 and np.median(np.diff(aside)) > 1e-3  # but for the begin of an episode
    graph.until(lambda: {'left/policy_node', 'right/policy_node', 'left/mujoco_bridge'} <= set(statuses))
    assert statuses['left/policy_node'] == 'left' and statuses['right/policy_node'] == 'right'
    topics = dict(left.node.get_topic_names_and_types())
    assert {'/left/clock', '/right/clock'} <= set(topics) and not left.node.count_publishers('/clock')

    # ~/reset gives the episode under way up, and another one begins.
    def aborts() -> bool:
        graph.until(lambda: right.events[-1].kind == 'start')
        count = len(right.events)
        right.ask('mujoco_bridge/reset')
        graph.until(lambda: any(event.kind == 'start' for event in right.events[count:]))
        return any(event.outcome == 'aborted' for event in right.events[count:])

    # Some have ended by the time that the service is called.
    assert any(aborts() for _ in range(10))

    # ~/stop holds the arm, whatever becomes of the episode, and the other arm goes on; ~/resume lets it go on.
    left.ask('policy_node/stop')
    graph.until(lambda: 'stopped by an operator: ~/resume of left/policy_node goes on' in left.loop.text)
    for _ in range(2):  # during the first episode of the other arm, events that are still under way arrive
        held, began = left.done, len(left.events)
        beside = right.done
        right.ask('mujoco_bridge/reset')
        graph.until(lambda: right.done > beside)
    assert left.done == held and len(left.events) == began
    left.ask('policy_node/resume')
    graph.until(lambda: left.done > held + 1)
    assert [process.stop() for side in sides.values() for process in side.processes] == [0] * 6
