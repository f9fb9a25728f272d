"""Quality of service profiles by purpose, following the conventions of ROS."""

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

JOINT_STATES_OFFERED = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
"""As joint_state_broadcaster offers them; deep, so a recorder that is briefly late loses no message."""

JOINT_STATES = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Matches every publisher; only the last state is used for control."""

COMMANDS = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
"""Controllers process every command in order."""

LOCKSTEP = QoSProfile(depth=20_000, reliability=ReliabilityPolicy.RELIABLE)
"""For states and commands in lockstep: holds those of a whole episode, until a recorder that lags has received them."""

COMPLETE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""For the last recorded episodes: also for a node that subscribes later."""

DESCRIPTION = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""For robot_description, as robot_state_publisher offers it: transient local."""

ESTOP = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
"""An emergency stop must not be lost."""

ENABLING = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Matches every publisher; only the last state of an enabling device matters, and silence counts as released."""

EPISODE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
"""Rare messages that must not be lost."""

CLOCK = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Profile of the clock subscription of nodes with use_sim_time."""

DIAGNOSTICS = QoSProfile(depth=10)

WATCHING = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Best effort: a slow or stalled display must not cause retransmissions by the publisher."""

TRANSFORMS = QoSProfile(depth=100)
"""As tf2_ros publishes /tf."""


def recording(reliability: ReliabilityPolicy) -> QoSProfile:
    """Return the profile for a recorder: as reliable as the publishers, and deep in case the disk stalls."""
    return QoSProfile(depth=20_000, reliability=reliability)
