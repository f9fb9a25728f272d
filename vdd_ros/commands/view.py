"""View of the simulated robot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class View:
    """View a running bridge: in the window of MuJoCo with a display, as a film without one.

    In the window, space pauses the bridge and backspace resets it. The bridge must run in the same ROS domain: the
    `vdd` commands write theirs to `ros_domain` among their logs. Start a bridge with `mujoco_bridge` or `ros2 launch
    vdd_ros simulation.launch.py`. Films need the extra `video` and EGL.
    """

    film: Path | None = None
    """MP4 file; without a display the default is view.mp4."""
    seconds: float = 10.0
    """Length of the film [s]."""
    camera: str = ''
    """Camera of the model for the film; default: the initial view of the window."""
    width: int = 960
    """Width of the film [pixels]."""
    height: int = 720
    """Height of the film [pixels]."""
    bridge: str = 'mujoco_bridge'
    """Name of the bridge."""
    timeout: float = 10.0
    """Silence of the bridge after which the viewer gives up [s]."""

    def run(self) -> int:
        """Run the command; return the exit code."""
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
