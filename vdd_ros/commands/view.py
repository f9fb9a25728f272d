"""Look at the simulated robot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class View:
    """Look at a running bridge: in MuJoCo's window where there is a display, as a film where there is none.

    In the window, space pauses the bridge and backspace resets it. It must run in the same ROS domain: the commands of
    `vdd` write theirs to `ros_domain` among their logs. Start one with `mujoco_bridge` or
    `ros2 launch vdd_ros simulation.launch.py`. Films need the `video` extra and EGL.
    """

    film: Path | None = None
    """MP4 file to write, display or not; without a display view.mp4 by default."""
    seconds: float = 10.0
    """Length of the film."""
    camera: str = ''
    """Camera of the model that the film is taken with; by default from where the window begins."""
    width: int = 960
    """Of the film, in pixels."""
    height: int = 720
    """Of the film, in pixels."""
    bridge: str = 'mujoco_bridge'
    """Name of the bridge."""
    timeout: float = 10.0
    """Seconds of the bridge's silence after which to give up."""

    def run(self) -> int:
        """Do it; return the exit code."""
        from vdd_ros.nodes.bridge.viewer import view

        optional = {'film': str(self.film)} if self.film else {}
        optional |= {'camera': self.camera} if self.camera else {}
        return view(
            bridge=self.bridge,
            seconds=float(self.seconds),
            width=self.width,
            height=self.height,
            timeout=float(self.timeout),
            **optional,
        )
