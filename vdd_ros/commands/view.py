"""View of the simulated robot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class View:
    """View a running bridge: in the window of MuJoCo with a display, as a video without one.

    In the window, space pauses the bridge, and backspace resets it. The viewer must run in the ROS domain of the
    bridge; `vdd` commands write their domain to the file `ros_domain` in their log folder. Start a bridge with
    `mujoco_bridge` or `ros2 launch vdd_ros simulation.launch.py`. Videos need the extra `video` and EGL.
    """

    film: Path | None = None
    """MP4 file; without a display the default is view.mp4."""
    seconds: float = 10.0
    """Duration of the video [s]."""
    camera: str = ''
    """Camera of the model for the video; default: the initial view of the window."""
    width: int = 960
    """Width of the video [pixels]."""
    height: int = 720
    """Height of the video [pixels]."""
    bridge: str = 'mujoco_bridge'
    """Name of the bridge."""
    timeout: float = 10.0
    """Time without messages of the bridge after which the viewer exits [s]."""

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
