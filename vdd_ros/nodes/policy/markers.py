"""Paths of the experts as markers for RViz: a line for each, with width by probability, number and probability."""

from __future__ import annotations

from collections.abc import Sequence

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from vdd_ros.control.expert_preview import ExpertPath
from vdd_ros.nodes.messages import to_duration, to_time
from vdd_ros.policy.labels import Labels

_LIFETIME = 2.0
"""Lifetime of the markers in RViz [s]."""


def to_markers(stamp: int, frame: str, paths: Sequence[ExpertPath], acting: int, labels: Labels) -> MarkerArray:
    """Convert paths to markers.

    Parameters
    ----------
    stamp
        Present time [ns].
    frame
        Frame of the points.
    paths
        Paths of the experts.
    acting
        The acting expert, which its label marks.
    labels
        Names and colours of the experts.

    """
    header = Header(stamp=to_time(stamp), frame_id=frame)
    markers = [Marker(header=Header(stamp=Time(), frame_id=frame), action=Marker.DELETEALL)]
    for path in paths:
        colour = _colour(labels.colour(path.expert))
        points = [Point(x=float(x), y=float(y), z=float(z)) for x, y, z in path.points]
        common = {'header': header, 'id': path.expert, 'color': colour, 'lifetime': to_duration(_LIFETIME)}
        pose = Pose(orientation=Quaternion(w=1.0))
        width = Vector3(x=0.002 + 0.01 * path.probability)
        markers.append(
            Marker(ns='expert_paths', type=Marker.LINE_STRIP, pose=pose, scale=width, points=points, **common)
        )
        label = f'{labels.text(path.expert)}: {path.probability:.0%}' + ' acts' * (path.expert == acting)
        pose = Pose(position=points[-1], orientation=Quaternion(w=1.0))
        size = Vector3(z=0.02)
        markers.append(Marker(ns='labels', type=Marker.TEXT_VIEW_FACING, pose=pose, scale=size, text=label, **common))
    return MarkerArray(markers=markers)


def _colour(text: str) -> ColorRGBA:
    red, green, blue = (value / 255 for value in bytes.fromhex(text[1:]))
    return ColorRGBA(r=red, g=green, b=blue, a=1.0)
