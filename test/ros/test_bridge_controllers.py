"""Any robot behind the bridge: controllers, sensors, time and disturbances, over real DDS."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from builtin_interfaces.msg import Duration
from commander import Commander, raw
from geometry_msgs.msg import PoseStamped, WrenchStamped
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from visualization_msgs.msg import MarkerArray

from vdd_ros.nodes import messages, qos

MODEL = """
<mujoco>
  <option timestep="0.002" integrator="implicitfast"/>
  <worldbody>
    <geom name="floor" type="plane" size="1 1 0.1"/>
    <body name="arm" pos="0 0 1" gravcomp="1"><joint name="first" axis="0 0 1" damping="1"/>
      <geom size="0.05" mass="1"/>
      <body name="hand" pos="0.3 0 0" gravcomp="1"><joint name="second" axis="0 0 1" damping="1"/>
        <geom name="hand" pos="0.1 0 0" size="0.05" mass="1"/>
        <site name="flange" pos="0.1 0 0"/>
        <body name="finger" pos="0.1 0 0"><joint name="finger" type="slide" axis="0 1 0" range="0 0.04"/>
          <geom size="0.01" mass="0.1"/>
        </body>
      </body>
    </body>
    <body name="box" pos="0.6 0.6 0.05"><freejoint/><geom name="box" type="box" size="0.05 0.05 0.05" mass="1"/></body>
  </worldbody>
  <actuator>
    <position name="second" joint="second" kp="400" kv="40"/>
    <position name="first" joint="first" kp="400" kv="40"/>
    <position name="finger" joint="finger" kp="200" kv="20"/>
  </actuator>
  <keyframe><key name="bent" qpos="0.5 0.4 0 0.6 0.6 0.05 1 0 0 0"/></keyframe>
</mujoco>
"""

SCENE = """
model: arm.xml
command_rate: 50
joint_states: [finger]
controllers:
  arm: {type: trajectory, joints: [first, second], interpolate_from_desired_state: true}
  forward: {type: position, joints: [second, first], active: false}
  gripper: {type: gripper, actuators: {finger: [0, 0.04]}, stroke: 0.08}
sensors:
  wrist: {type: force_torque, site: flange, rate: 50}
  imu: {type: imu, site: flange, rate: 50}
  touch: {type: contacts, geoms: [box], rate: 50}
  box: {type: pose, of: box, rate: 50}
"""

_TROUBLE = """
joint_states: {position_noise: 0.001, latency: 0.003, jitter: 0.004, drop: 0.1}
commands: {latency: 0.002, jitter: 0.002}
randomization: {mass: {between: [0.8, 1.2]}, stiffness: {between: [0.8, 1.2]}, objects: [{body: box, x: [-0.1, 0.1]}]}
"""

_PERIOD = 20_000_000
_SENSORS = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)


@pytest.fixture(scope='module')
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a scene file of a robot that nobody has seen before."""
    folder = tmp_path_factory.mktemp('robot')
    (folder / 'arm.xml').write_text(MODEL, encoding='utf-8')
    (folder / 'scene.yaml').write_text(SCENE, encoding='utf-8')
    (folder / 'trouble.yaml').write_text(_TROUBLE, encoding='utf-8')
    return folder / 'scene.yaml'


def trajectory(
    positions: list, times: list[int], joints: tuple = ('second', 'first'), stamp: int = 0
) -> JointTrajectory:
    """Return a trajectory of positions at times [ns]."""
    points = [
        JointTrajectoryPoint(positions=row, time_from_start=Duration(sec=time // 10**9, nanosec=time % 10**9))
        for row, time in zip(positions, times)
    ]
    message = JointTrajectory(joint_names=list(joints), points=points)
    message.header.stamp = messages.to_time(stamp)
    return message


class Robot(Commander):
    """Commands the robot of the scene by trajectories, and receives its sensors."""

    def __init__(self, graph, name: str = 'commander') -> None:
        """Take part in the test's graph."""
        node = graph.node(f'{name}_of_robot')
        self.received: dict[str, list] = {}
        for topic, kind in (
            ('wrist/wrench', WrenchStamped),
            ('imu/imu', Imu),
            ('touch/contacts', MarkerArray),
            ('box/pose', PoseStamped),
        ):
            self.received[topic] = []
            node.create_subscription(kind, topic, self.received[topic].append, _SENSORS)
        self._node = node
        self._trajectories = node.create_publisher(JointTrajectory, 'arm/joint_trajectory', qos.COMMANDS)
        self._openings = node.create_publisher(Float64MultiArray, 'gripper/commands', qos.COMMANDS)
        self._elsewhere = node.create_publisher(JointState, 'mujoco_bridge/reset_to', qos.EPISODE)
        super().__init__(graph, name, commands='forward/commands')
        publishers = (self._trajectories, self._openings, self._elsewhere)
        graph.until(lambda: all(publisher.get_subscription_count() for publisher in publishers))

    def call(self, kind: type, name: str, **fields: object) -> object:
        """Call a service of the bridge and return its answer."""
        client = self._node.create_client(kind, f'mujoco_bridge/{name}')
        self._graph.until(client.service_is_ready)
        future = client.call_async(kind.Request(**fields))
        self._graph.until(future.done)
        return future.result()

    def set(self, **values: object) -> list[str]:
        """Set parameters and return the complaints."""
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        return [each.reason for each in self.call(SetParameters, 'set_parameters', parameters=parameters).results]

    def follow(self, message: JointTrajectory) -> None:
        """Send a trajectory, and wait for the state at the end of the policy period."""
        self._due += _PERIOD
        self._trajectories.publish(message)
        self._graph.until(lambda: self.stamp >= self._due)

    def reset(self) -> messages.EpisodeEvent:
        """Begin an episode and wait for its first state."""
        start = super().reset()
        self._due = start.stamp
        return start

    def open(self, metres: float) -> None:
        """Open the gripper so far."""
        self._openings.publish(messages.to_command(np.array([metres])))

    def go(self, name: str, position: float) -> None:
        """Reset with one joint elsewhere, and wait for it."""
        seen = len(self.events)
        self._elsewhere.publish(JointState(name=[name], position=[position]))
        self._graph.until(lambda: len(self.events) > seen and self.events[-1].kind == 'start')
        self._graph.until(lambda: self.stamp >= self.events[-1].stamp)

    @property
    def places(self) -> dict[str, float]:
        """Positions of the newest state, by joint."""
        return dict(zip(self.states[-1].name, self.states[-1].position))


def test_a_robot_by_yaml_alone_follows_trajectories_and_publishes_its_sensors(graph, scene):
    graph.start('mujoco_bridge', scene=scene, step_timeout=20.0)
    robot = Robot(graph)
    start = robot.reset().stamp
    assert set(robot.places) == {'first', 'second', 'finger'}
    robot.open(0.08)
    for _ in range(50):
        robot.follow(trajectory([[0.2, -0.1]], [1_000_000_000], stamp=start))
    for _ in range(10):
        robot.follow(trajectory([[0.2, -0.1]], [_PERIOD]))
    assert robot.places['second'] == pytest.approx(0.2, abs=0.01)
    assert robot.places['first'] == pytest.approx(-0.1, abs=0.01)
    assert robot.places['finger'] == pytest.approx(0.04, abs=1e-3)

    graph.until(lambda: all(len(received) > 40 for received in robot.received.values()))
    stamps = [messages.from_time(each.header.stamp) for each in robot.received['imu/imu']]
    assert set(np.diff(stamps)) == {_PERIOD} and not stamps[0] % _PERIOD
    imu, wrench, pose = (robot.received[topic][-1] for topic in ('imu/imu', 'wrist/wrench', 'box/pose'))
    assert imu.header.frame_id == 'flange' and imu.linear_acceleration.z == pytest.approx(9.81, abs=0.2)
    assert wrench.wrench.force.z == pytest.approx(-1.1 * 9.81, abs=0.2)
    assert pose.header.frame_id == 'world' and pose.pose.position.z == pytest.approx(0.05, abs=1e-3)
    marks = robot.received['touch/contacts'][-1].markers
    assert {mark.ns for mark in marks[1:]} == {'floor|box'}
    assert sum(float(mark.text) for mark in marks[1:]) == pytest.approx(9.81, rel=0.05)


def test_trajectories_that_joint_trajectory_controller_refuses_are_refused_over_the_wire(graph, scene):
    bridge = graph.start('mujoco_bridge', scene=scene, step_timeout=20.0)
    robot = Robot(graph)
    start = robot.reset()
    second = 1_000_000_000
    wrong = [
        trajectory([[0.1]], [second], joints=('second',)),
        trajectory([[0.1, 0.1]], [second], joints=('second', 'third')),
        trajectory([[0.1]], [second]),
        trajectory([[0.1, 0.1], [0.2, 0.2]], [second, second]),
        trajectory([[0.1, 0.1]], [-second]),
        trajectory([[0.1, 0.1]], [1], stamp=start.stamp - 2),
        trajectory([[float('nan'), 0.1]], [second]),
    ]
    for message in wrong:
        robot._trajectories.publish(message)
    robot.send(np.zeros(2))  # to a controller that is not active
    robot._openings.publish(Float64MultiArray(data=[0.1, 0.2]))
    graph.until(lambda: robot.diagnostics.get('refused') == str(len(wrong) + 2))
    assert robot.stamp == start.stamp
    assert 'command refused: expected all joints of arm' in bridge.text
    robot.follow(trajectory([[0.1, 0.1]], [second], stamp=start.stamp))
    assert robot.stamp == start.stamp + _PERIOD


def test_with_the_wall_clock_a_trajectory_is_followed_by_stamps_of_that_clock(graph, scene):
    graph.start('mujoco_bridge', use_sim_time=False, scene=scene, mode='realtime', clock='wall')
    robot = Robot(graph)
    begin = time.time_ns() + 1_000_000_000
    robot._trajectories.publish(trajectory([[0.2, -0.1]], [500_000_000], stamp=begin))
    graph.until(lambda: abs(robot.places['second'] - 0.2) < 0.01)
    early = [each for each in robot.states if messages.from_time(each.header.stamp) < begin + 300_000_000]
    positions = [each.position[list(each.name).index('second')] for each in early]
    assert 0.05 < max(positions) < 0.19


def test_controllers_are_switched_but_a_joint_has_one_at_a_time(graph, scene):
    graph.start('mujoco_bridge', scene=scene, mode='fast')
    robot = Robot(graph)
    refused = robot.call(SetBool, 'forward/activate', data=True)
    assert not refused.success and refused.message == 'second is moved by arm: deactivate that first'
    assert robot.call(SetBool, 'arm/activate', data=False).success
    assert robot.call(SetBool, 'forward/activate', data=True).message == 'forward is active'
    robot.send(np.array([0.3, -0.2]))
    graph.until(lambda: abs(robot.places['second'] - 0.3) + abs(robot.places['first'] + 0.2) < 0.02)


@pytest.mark.realtime
def test_time_stands_still_advances_by_steps_and_faster_or_slower(graph, scene):
    graph.start('mujoco_bridge', scene=scene, mode='realtime', joint_state_rate=100.0)
    robot = Robot(graph)
    assert not robot.call(Trigger, 'step').success
    robot.call(SetBool, 'pause', data=True)
    graph.until(lambda: robot.diagnostics.get('paused') == 'True')
    stamp = robot.stamp
    assert robot.set(step_count=7) == ['']
    assert robot.call(Trigger, 'step').success
    graph.until(lambda: robot.stamp >= stamp + 70_000_000)
    assert robot.stamp == stamp + 70_000_000
    robot.call(SetBool, 'pause', data=False)
    assert robot.set(speed=20.0) == ['']
    graph.until(lambda: robot.stamp > stamp + 2_000_000_000)
    graph.until(lambda: float(robot.diagnostics.get('factor', 0)) > 2)


def test_resets_lead_to_keyframes_and_states_and_what_is_neither_is_refused(graph, scene):
    bridge = graph.start('mujoco_bridge', scene=scene, step_timeout=20.0)
    robot = Robot(graph)
    robot.go('second', -0.3)
    assert (robot.places['first'], robot.places['second']) == (0.0, -0.3)
    assert 'expected a key straight in the scene; found bent' in robot.set(keyframe='straight')[0]
    assert robot.set(keyframe='bent') == ['']
    robot.reset()
    assert (robot.places['first'], robot.places['second']) == (0.5, 0.4)
    robot.go('second', 0.1)
    assert (robot.places['first'], robot.places['second']) == (0.5, 0.1)
    robot._elsewhere.publish(JointState(name=['third'], position=[0.0]))
    graph.until(lambda: 'reset refused: expected a joint third in the scene' in bridge.text)


def test_with_all_disturbances_one_seed_gives_every_state_to_the_last_bit(graph, scene):
    runs = []
    robot = None
    graph.start('mujoco_bridge', scene=scene, disturbances=scene.with_name('trouble.yaml'), seed=7, step_timeout=20.0)
    robot = Robot(graph)
    for seed in (7, 7, 8):
        assert robot.set(seed=seed) == ['']
        start = robot.reset()
        seen = next(i for i, state in enumerate(robot.states) if messages.from_time(state.header.stamp) == start.stamp)
        for tick in range(40):
            robot.follow(trajectory([[0.01 * tick, 0.02 * tick]], [_PERIOD]))
        states = [raw(state) for state in robot.states[seen:]]
        runs.append([(stamp - start.stamp, *rest) for stamp, *rest in states])
    assert len(runs[0]) > 100
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    graph.until(lambda: int(robot.diagnostics.get('lost_states', 0)) > 0)


def test_a_commander_that_is_gone_is_named_and_the_bridge_continues_as_configured(graph, scene):
    bridge = graph.start('mujoco_bridge', scene=scene, step_timeout=0.1, on_silence='go_on')
    robot = Robot(graph)
    start = robot.reset()
    graph.until(lambda: robot.stamp >= start.stamp + 3 * _PERIOD)
    assert 'going on without commander_of_robot on /arm/joint_trajectory, silent for 0.1 s' in bridge.text
    robot._node.destroy_publisher(robot._trajectories)
    graph.until(lambda: 'commander_of_robot is gone: it commanded /arm/joint_trajectory' in bridge.text)
    stamp = robot.stamp
    graph.until(lambda: robot.stamp >= stamp + _PERIOD)
