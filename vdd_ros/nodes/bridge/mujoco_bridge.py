"""A simulated robot behind the topics of ros2_control: joint states and sensors out, commands in, a clock, episodes."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock as NodeClock
from rclpy.clock import ClockType
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import load_contract
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.bridge.bridge_parameters import PARAMETERS
from vdd_ros.nodes.bridge.bridge_services import BridgeServices
from vdd_ros.nodes.bridge.cameras import Cameras, optical_frame
from vdd_ros.nodes.bridge.commanders import Commanders
from vdd_ros.nodes.bridge.controller_actions import ControllerActions
from vdd_ros.nodes.bridge.controller_topics import ControllerTopics
from vdd_ros.nodes.bridge.lockstep import Lockstep
from vdd_ros.nodes.bridge.physics_thread import PhysicsThread
from vdd_ros.nodes.bridge.robot_interface import RobotInterface
from vdd_ros.nodes.bridge.sensor_topics import SensorTopics
from vdd_ros.nodes.bridge.transforms import Transforms
from vdd_ros.nodes.bridge.world import World
from vdd_ros.nodes.messages import EpisodeEvent
from vdd_ros.nodes.parameters import Value, declare
from vdd_ros.nodes.process import guarded, run
from vdd_ros.sim.controllers import Controller
from vdd_ros.sim.disturbances import Disturbances, load_disturbances
from vdd_ros.sim.frames import FrameTree
from vdd_ros.sim.scene import SceneSettings
from vdd_ros.sim.snapshot import snapshot
from vdd_ros.sim.stage import open_stage
from vdd_ros.sim.start import Start

_IDLE_PERIOD = 0.1
_VIEW_PERIOD = 1 / 30


class MujocoBridge(Node):
    """Offers the simulated robot to other nodes with the same interfaces as the real robot.

    All operations on the scene are executed by `_time`: in the physics thread, or, in lockstep, in the thread in which
    commands arrive.
    """

    _time: PhysicsThread | Lockstep | None = None
    _cameras: Cameras | None = None
    _actions: ControllerActions | None = None

    def __init__(self) -> None:
        """Declare the parameters, build the scene, and create the topics of a robot under ros2_control."""
        super().__init__('mujoco_bridge')
        self._values = values = declare(self, PARAMETERS, self._apply)
        _check_clock(values)
        contract = load_contract(values['contract']) if values['contract'] else None
        stage = open_stage(values['task'], values['scene'], values['controller'], values['command_interface'], contract)
        disturbances = load_disturbances(values['disturbances'], stage.task.scenarios_beside if stage.task else None)
        self._world = World(
            stage,
            values['joint_state_rate'],
            disturbances,
            values['seed'],
            command_rate=values['command_rate'],
            time_limit=values['time_limit'],
        )
        self._interface = RobotInterface(self._world.simulation.joints, contract)
        self._keyframe = values['keyframe']
        self._check_keyframe(self._keyframe)
        self._lockstep = values['mode'] == 'lockstep'
        self._step_timeout = values['step_timeout']
        self._outcomes = {'success': 0, 'failure': 0, 'aborted': 0}
        self._ignored = self._silences = self._unanswered = 0
        self._held: list[tuple[Controller, Any]] = []
        self._viewed = 0.0
        simulated = values['clock'] == 'simulation'
        self._clock_publisher = self.create_publisher(Clock, '/clock', qos.CLOCK) if simulated else None
        offered = qos.LOCKSTEP if self._lockstep else qos.JOINT_STATES_OFFERED
        self._states = self.create_publisher(JointState, self._interface.joint_states, offered)
        self._states_name = f'/{self._interface.joint_states.lstrip("/")}'
        self._counts: Counter[str] = Counter()
        self._episodes = self.create_publisher(DiagnosticArray, self._interface.episode, qos.EPISODE)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', qos.DIAGNOSTICS)
        self._views = self.create_publisher(Float64MultiArray, '~/view', qos.CLOCK)
        self._sensor_topics = SensorTopics(self, stage.settings.sensors)
        self._cameras = self._open_cameras(stage.settings, disturbances)
        self._transforms = self._open_transforms(stage.settings)
        self._publish_state()
        self._time = self._open_time(stage.awaited)
        agreed = self._interface.commands(stage.controllers)
        self._controllers = ControllerTopics(self, self._world, self._on_command, self._switch, agreed, self._simulated)
        self._actions = ControllerActions(self, self._world, self._controllers, self._accept, self._do)
        BridgeServices(self, reset=self._reset, pause=self._pause, step=functools.partial(self._do, self._step))
        wall = NodeClock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._report, clock=wall)
        if self._lockstep:
            topics = self._controllers.topics
            self._commanders = Commanders(self, lambda: [topics[name] for name in self._time.awaited])
            self.create_timer(min(_IDLE_PERIOD, self._step_timeout), self._look_for_silence, clock=wall)
        else:
            self._time.start()

    def _open_time(self, awaited: Sequence[str]) -> Lockstep | PhysicsThread:
        """Return the object that advances the scene: lockstep with the awaited controllers, or a physics thread."""
        values, world = self._values, self._world
        if self._lockstep:
            return Lockstep(world, values['lockstep_controllers'] or awaited, self._advance)
        return PhysicsThread(
            world.chunk_duration, values['speed'] if values['mode'] == 'realtime' else None, self._advance
        )

    def _open_cameras(self, settings: SceneSettings, disturbances: Disturbances) -> Cameras:
        world = self._world
        options = {'wait': self._lockstep, 'stamped': self._stamped}
        return Cameras(self, world.simulation, settings.cameras, disturbances.sensors, world.state_rate, **options)

    def _open_transforms(self, settings: SceneSettings) -> Transforms:
        """Publish the transforms of the links, of sensor sites and of optical frames."""
        sites = [each.site for each in settings.sensors.values() if hasattr(each, 'site')]
        optical = {optical_frame(name): each.camera or name for name, each in settings.cameras.items()}
        return Transforms(self, FrameTree(self._world.simulation, sites, optical))

    def destroy_node(self) -> None:
        """Stop the physics, then the cameras, then the node."""
        if isinstance(self._time, PhysicsThread):
            self._time.stop()
        if self._cameras:
            self._cameras.close()
        if self._actions:
            self._actions.close()
        super().destroy_node()

    def _do(self, action: Callable[[], Any]) -> Any:
        return self._time.do(action)

    @guarded
    def _on_command(self, controller: Controller, message: Any) -> None:
        self._time.post(functools.partial(self._take, controller, message))

    def _take(self, controller: Controller, message: Any) -> None:
        if self._lockstep and self._world.running and self._time.paused:
            self._held.append((controller, message))
        else:
            self._accept(controller, message)

    def _accept(self, controller: Controller, message: Any) -> bool:
        """Take a command; return whether it was accepted. In lockstep none is while time is paused."""
        if self._lockstep and (self._time.paused or not self._world.running):
            # Not wrong: whoever answers states cannot know that the episode has just ended.
            self._ignored += 1
            return False
        accepted = self._controllers.take(controller, message)
        if accepted and self._lockstep:
            # Before the period that the command begins: that may end the episode.
            self._counts[self._controllers.names[controller.name]] += 1
            self._time.on_command(controller.name)
        return accepted

    def _switch(self, controller: Controller, active: bool) -> str:
        return self._do(functools.partial(self._controllers.switch, controller, active))

    def _advance(self) -> None:
        """Simulate one chunk and publish its results; the boundary's own state is the last of its period."""
        event = self._world.advance()
        self._publish_state()
        if event:
            self._announce(event)

    def _reset(self, start: Start | None = None) -> str:
        """Begin an episode at the default start or another one; return a line about it."""

        def reset() -> str:
            base = Start(self._keyframe) if self._keyframe else None
            for event in self._world.reset(base if start is None else self._world.changed(base, start)):
                self._announce(event)
            self._cameras.begin(self._world.arm.seed)
            self._held.clear()
            if self._lockstep:
                self._time.begin()
            self._publish_state()
            return f'episode {self._world.index} starts at {self._stamped(self._world.stamp)} ns'

        return self._do(reset)

    def _pause(self, paused: bool) -> None:
        def pause() -> None:
            self._time.paused = paused
            held, self._held = self._held, []
            for controller, message in held:
                self._take(controller, message)

        self._do(pause)

    def _step(self) -> str:
        if not self._time.paused:
            return 'time does not stand still: call ~/pause with data: true first'
        for _ in range(self._values['step_count']):
            self._advance()
        return ''

    def _apply(self, changed: Mapping[str, Value]) -> None:
        """Apply parameters that were set at run time."""
        if 'keyframe' in changed:
            self._check_keyframe(changed['keyframe'])
            self._keyframe = changed['keyframe']
        _check_clock({**self._values, **changed})
        self._values = {**self._values, **changed}
        if 'seed' in changed:
            self._do(functools.partial(self._world.seed, changed['seed']))
        if 'speed' in changed and self._values['mode'] == 'realtime':
            self._time.speed = changed['speed']

    def _check_keyframe(self, name: str) -> None:
        if name:
            self._world.simulation.check('key', name)

    def _announce(self, event: EpisodeEvent) -> None:
        if event.kind == 'end':
            self._outcomes[event.outcome] += 1
        else:
            self._counts.clear()
        counts = dict(self._counts) if self._lockstep and event.kind == 'end' else {}
        event = dataclasses.replace(event, stamp=self._stamped(event.stamp), counts=counts)
        self._episodes.publish(messages.to_episode(event))

    def _publish_state(self) -> None:
        """Publish the messages that have arrived: clock, sensors, and last joint states, which trigger commands."""
        world = self._world
        # In lockstep nothing acts between the boundaries, and a clock that ticked there would only cost time.
        if not self._lockstep or world.at_boundary or world.is_answered or not world.running:
            self._tick()
        for reading in world.readings():
            self._sensor_topics.publish(dataclasses.replace(reading, stamp=self._stamped(reading.stamp)))
        self._cameras.look()
        self._transforms.publish(self._stamped(world.stamp))
        self._published = time.monotonic()
        if self._published - self._viewed > _VIEW_PERIOD:
            self._show()
        for state in world.states():
            self._last = self._interface.state(state, self._stamped(state.stamp))
            self._send_state()

    def _send_state(self) -> None:
        self._states.publish(self._last)
        self._counts[self._states_name] += 1

    def _tick(self) -> None:
        if self._clock_publisher is not None:
            self._clock_publisher.publish(messages.to_clock(self._world.stamp))

    def _stamped(self, stamp: int) -> int:
        """Return the stamp that is published for a time of the simulation [ns], which is now or was before."""
        if self._clock_publisher is not None:
            return stamp
        now = self._time.due if isinstance(self._time, PhysicsThread) else time.time_ns()
        return now - (self._world.stamp - stamp)

    def _simulated(self, stamp: int) -> int:
        """Return the time of the simulation for a stamp of the clock that is published [ns]."""
        return stamp if self._clock_publisher is not None else stamp - self._stamped(0)

    def _show(self) -> None:
        self._viewed = time.monotonic()
        if self._views.get_subscription_count():
            self._views.publish(messages.to_command(snapshot(self._world.simulation)))

    @guarded
    def _look_for_silence(self) -> None:
        """Publish the last state again: it may have been lost, and a new subscriber needs one to begin with."""
        for name in self._commanders.left():
            self.get_logger().warning(f'{name} is gone: it commanded {self._commanders.topics}')
        running = self._world.running and not self._time.paused
        if time.monotonic() - self._published < (self._step_timeout if running else _IDLE_PERIOD):
            return
        if running:
            self._silences += 1
            going_on = self._values['on_silence'] == 'go_on'
            what = 'going on without' if going_on else 'waiting for'
            silence = f'silent for {self._step_timeout:g} s'
            self.get_logger().warning(f'{what} {self._commanders}, {silence}', throttle_duration_sec=5.0)
            if going_on:
                self._unanswered += 1
                self._time.go_on()
                return
        self._published = time.monotonic()
        self._tick()
        self._send_state()
        self._show()

    @guarded
    def _report(self) -> None:
        world, thread = self._world, self._time
        values = {'episode': world.index, 'running': world.running, 'steps': world.steps, **self._outcomes}
        values |= {'refused': self._controllers.refused, 'ignored': self._ignored, 'silences': self._silences}
        values |= {'unanswered': self._unanswered, 'paused': thread.paused}
        states, commands = world.arm.dropped
        values |= {'lost_states': states, 'lost_commands': commands, 'lost_readings': world.sensors.dropped}
        for name, drawn in self._cameras.drawn.items():
            values[name] = f'{drawn} pictures, {self._cameras.dropped[name]} dropped'
        if isinstance(thread, PhysicsThread):
            thread.check()
            values |= {'factor': f'{thread.factor:.4f}', 'late': thread.late}
            values |= {'behind_ms': f'{thread.behind * 1e3:.2f}', 'given_up_s': f'{thread.given_up:.3f}'}
        text = 'paused' if thread.paused else 'episode runs' if world.running else 'waiting for ~/reset'
        level = DiagnosticStatus.WARN if self._controllers.refused else DiagnosticStatus.OK
        name = self.get_fully_qualified_name()
        self._diagnostics.publish(messages.to_diagnostics(self._stamped(world.stamp), name, text, values, level))


def _check_clock(values: Mapping[str, Value]) -> None:
    """Refuse wall-clock stamps for a simulation that is not paced by the wall clock."""
    if values['clock'] == 'wall' and (values['mode'] != 'realtime' or values['speed'] != 1.0):
        raise ConfigurationError(
            expected='mode realtime at speed 1 with clock wall',
            found=f'mode {values["mode"]} at speed {values["speed"]:g}',
            remedy='set mode:=realtime and speed:=1.0, or leave clock at simulation',
        )


def main() -> int:
    """Run the node as a process."""
    return run(MujocoBridge)


if __name__ == '__main__':
    raise SystemExit(main())
