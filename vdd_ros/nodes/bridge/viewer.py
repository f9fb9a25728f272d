"""Show a running bridge: in the window of MuJoCo with a display, as a video without one."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
from rcl_interfaces.srv import GetParameters
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.subscription import Subscription
from rclpy.task import Future
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool, Trigger

from vdd_ros.common.errors import ConfigurationError, InterfaceError
from vdd_ros.nodes import qos
from vdd_ros.nodes.parameters import Parameter, declare
from vdd_ros.nodes.process import guarded, run
from vdd_ros.sim.film import Film
from vdd_ros.sim.stage import open_stage
from vdd_ros.sim.viewing import Picturing, Window, has_display

PARAMETERS = (
    Parameter('bridge', 'mujoco_bridge', 'name of the bridge', topic=True),
    Parameter('film', '', 'MP4 file to write; empty: a window with a display, else view.mp4', path=True),
    Parameter('camera', '', 'camera of the model for the video; empty: the default view'),
    Parameter('seconds', 10.0, 'duration of the video [s]', minimum=0.1, maximum=3600.0),
    Parameter('width', 960, 'width of the video [pixels]; even', minimum=16, maximum=4096),
    Parameter('height', 720, 'height of the video [pixels]; even', minimum=16, maximum=4096),
    Parameter('timeout', 10.0, 'maximum time without messages of the bridge [s]', minimum=0.1, maximum=3600.0),
)

_RATE = 30.0
_SPACE, _BACKSPACE = 32, 259


class Viewer(Node):
    """Loads the scene of the bridge, and shows its snapshots."""

    # Class attributes, because a node with invalid parameters is destroyed before __init__ ends.
    _open: ExitStack | None = None

    def __init__(self) -> None:
        """Declare the parameters and request the scene of the bridge."""
        super().__init__('viewer')
        self._values = values = declare(self, PARAMETERS)
        if values['width'] % 2 or values['height'] % 2:
            raise ConfigurationError(
                expected='an even width and height',
                found=f'{values["width"]} x {values["height"]}',
                remedy='use even numbers',
            )
        self._film = values['film'] or ('' if has_display() else 'view.mp4')
        self._open = ExitStack()
        self._show: Callable[[np.ndarray], None] | None = None
        self._window: Window | None = None
        self._pictures = 0
        self._received = time.monotonic()
        self._paused = False
        self._views: Subscription | None = None
        bridge = values['bridge']
        self._asking = self.create_client(GetParameters, f'{bridge}/get_parameters')
        self._pause = self.create_client(SetBool, f'{bridge}/pause')
        self._reset = self.create_client(Trigger, f'{bridge}/reset')
        self._answer: Future | None = None
        self.create_timer(0.1, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @property
    def done(self) -> bool:
        """Whether the video is complete, or the window was closed."""
        if self._film:
            return self._pictures >= self._values['seconds'] * _RATE
        return self._window is not None and not self._window.is_open

    def destroy_node(self) -> None:
        """Finish the video or close the window."""
        if self._open is None:
            super().destroy_node()
            return
        self._open.close()
        if self._pictures and self._film:
            self.get_logger().info(f'{self._pictures} images in {self._film}')
        super().destroy_node()

    @guarded
    def _look(self) -> None:
        """Request the scene from the bridge until it responds; exit if it does not respond in time or is gone.

        A paused bridge sends no messages, but exists.
        """
        silent = time.monotonic() - self._received > self._values['timeout']
        if silent and not (self._views and self.count_publishers(self._views.topic_name)):
            raise InterfaceError(
                expected=f'a bridge {self._values["bridge"]}',
                found=f'no message for {self._values["timeout"]:g} s',
                remedy='start mujoco_bridge in the same namespace and ROS domain, or set -p bridge:=NAME',
            )
        if self._answer is None and self._asking.service_is_ready():
            names = ['task', 'scene', 'controller', 'command_interface']
            self._answer = self._asking.call_async(GetParameters.Request(names=names))
            self._answer.add_done_callback(self._begin)

    @guarded
    def _begin(self, answer: Future) -> None:
        task, scene, controller, interface = (value.string_value for value in answer.result().values)
        simulation = open_stage(task, scene, controller, interface).simulation
        if self._film:
            values = self._values
            picturing = Picturing(simulation, values['camera'], values['width'], values['height'])
            self._open.callback(picturing.close)
            film = self._open.enter_context(Film(self._film, _RATE))
            self._show = lambda vector: film.add(picturing.picture(vector))
        else:
            self._window = Window(simulation, self._press)
            self._open.callback(self._window.close)
            self._show = self._window.show
        bridge = self._values['bridge']
        self._views = self.create_subscription(Float64MultiArray, f'{bridge}/view', self._on_view, qos.CLOCK)
        what = self._film or 'space pauses, backspace resets'
        self.get_logger().info(f'showing {scene or task} on {bridge}: {what}')

    @guarded
    def _on_view(self, message: Float64MultiArray) -> None:
        self._received = time.monotonic()
        if not self.done:
            self._show(np.array(message.data))
            self._pictures += 1

    def _press(self, key: int) -> None:
        requests: dict[int, Any] = {
            _SPACE: (self._pause, SetBool.Request(data=not self._paused)),
            _BACKSPACE: (self._reset, Trigger.Request()),
        }
        if key in requests:
            client, request = requests[key]
            client.call_async(request)
            self._paused ^= key == _SPACE


def main() -> int:
    """Run the node as a process."""
    return run(Viewer, attend=lambda node: node.done)


def view(**parameters: object) -> int:
    """Run the node in this process with parameters by name; return the exit code."""
    words = [word for name, value in parameters.items() for word in ('-p', f'{name}:={value}')]
    return run(Viewer, ['--ros-args', *words], attend=lambda node: node.done)


if __name__ == '__main__':
    raise SystemExit(main())
