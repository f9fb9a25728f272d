"""Quality of service by purpose: what the conventions of ROS ask for, in one place."""

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

JOINT_STATES_OFFERED = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
"""As joint_state_broadcaster offers them; deep, so that a recorder that is late for a moment loses nothing."""

JOINT_STATES = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Matches every publisher; only the newest state matters to who controls."""

COMMANDS = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
"""A controller takes every command, in order."""

DESCRIPTION = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""As robot_state_publisher offers robot_description: once, and for all who come later."""

ESTOP = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
"""An emergency stop may not get lost."""

EPISODE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
"""Rare, and none to be missed."""

CLOCK = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""As every node with use_sim_time subscribes it."""

DIAGNOSTICS = QoSProfile(depth=10)

TRANSFORMS = QoSProfile(depth=100)
"""As tf2_ros publishes /tf."""


def recording(reliability: ReliabilityPolicy) -> QoSProfile:
    """Return what a recorder subscribes with: as reliable as the publishers offer, with room for a stalled disk."""
    return QoSProfile(depth=20_000, reliability=reliability)
