"""A custom policy in the control loop: commands are within the limits for any policy output.

The policy requests a jump of joint 0, and later returns NaN. The loop sends commands within the limits, and stops.
"""

from __future__ import annotations

import numpy as np

import vdd_ros

MILLISECOND = 1_000_000
CONTRACT = vdd_ros.load_contract('avoiding_joint')
JOINTS = len(CONTRACT.robot.joints)
LIMITS = vdd_ros.Limits(
    lower=np.full(JOINTS, -2.0),
    upper=np.full(JOINTS, 2.0),
    velocity=np.full(JOINTS, 1.0),
    acceleration=np.full(JOINTS, 5.0),
    jerk=np.full(JOINTS, 50.0),
    lag=0.5,
)


class Leap:
    """Requests a motion of joint 0 by 0.3 rad in each step, and NaN from the third call on."""

    def __init__(self) -> None:
        """Start counting calls."""
        self.answers = 0

    def __call__(self, window: np.ndarray) -> np.ndarray:
        """Return a chunk of changes of the command, shape (prediction_horizon, joint)."""
        self.answers += 1
        chunk = np.zeros((CONTRACT.prediction_horizon, JOINTS))
        chunk[:, 0] = 0.3 if self.answers < 3 else np.nan
        return chunk


def main(seconds: float = 4.0) -> tuple[np.ndarray, str]:
    """Run the loop at 200 Hz; return the commands, shape (time, joint), and why it stopped."""
    loop = vdd_ros.ControlLoop(
        CONTRACT,
        vdd_ros.FunctionPolicy(Leap(), CONTRACT),
        None,
        limits=LIMITS,
        freshness=vdd_ros.Freshness(max_age=100 * MILLISECOND),
        generator=np.random.default_rng(0),
        control_period=5 * MILLISECOND,
    )
    measured, commands = np.zeros(JOINTS), []
    loop.start(0, measured)
    for now in range(5 * MILLISECOND, int(seconds * 1e9), 5 * MILLISECOND):
        loop.observe(now, measured)
        output = loop.advance(now)
        measured = measured + 0.5 * (output.position - measured)  # an arm that follows with some delay
        commands.append(output.position)
    return np.array(commands), output.reason


if __name__ == '__main__':
    sent, reason = main()
    print(f'highest speed {np.abs(np.diff(sent, axis=0)).max() / 0.005:.3f} rad/s, limit 1; at the end: {reason}')
