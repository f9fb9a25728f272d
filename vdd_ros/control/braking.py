"""Closed-form braking of one joint, used to keep a stop within the limits possible after every command.

Everything here is for one joint and in *steps*: positions in rad, velocities in rad/step, accelerations in rad/step^2,
jerk in rad/step^3. A command follows from the previous command by

    a' = a + j,    v' = v + a',    p' = p + v',        |j| <= J,  |a| <= A,  |v| <= V,

so that v, a and j are the first, second and third differences of the commands. The sequence is the control polygon of a
cubic B-spline, a motion of constant jerk within each step with the velocity ``v - a / 2``. The formulas of continuous
time are therefore exact, except for the times at which jerk can switch.
"""

from __future__ import annotations

from math import floor, sqrt


def velocity_to_come(acceleration: float, jerk: float) -> float:
    """Return the velocity gained while a positive acceleration is reduced to zero at maximum jerk."""
    steps = floor(acceleration / jerk)
    return steps * acceleration - jerk * steps * (steps + 1) / 2


def greatest_acceleration(headroom: float, jerk: float) -> float:
    """Return the maximum next acceleration such that the velocity rises by at most ``headroom`` in total.

    The result ``a`` satisfies ``a + velocity_to_come(a, jerk) == headroom``.
    """
    if headroom <= 0:
        return 0.0
    steps = floor((1 + sqrt(1 + 8 * headroom / jerk)) / 2)
    return headroom / steps + jerk * (steps - 1) / 2


def velocity_at_ease(velocity: float, acceleration: float, jerk: float) -> float:
    """Return the velocity that remains after the acceleration was reduced to zero at maximum jerk."""
    if acceleration >= 0:
        return velocity + velocity_to_come(acceleration, jerk)
    return velocity - velocity_to_come(-acceleration, jerk)


def braking_acceleration(velocity: float, acceleration: float, limit: float, jerk: float) -> float:
    """Return the next acceleration of the quickest stop, which ends with zero velocity and acceleration.

    Jerk is at its bound from the time when the acceleration must be reduced to prevent a change of sign of the
    velocity.
    """
    ease = velocity_at_ease(velocity, acceleration, jerk)
    if ease > 0:
        return max(acceleration - jerk, -limit, -greatest_acceleration(velocity, jerk))
    if ease < 0:
        return min(acceleration + jerk, limit, greatest_acceleration(-velocity, jerk))
    return max(acceleration - jerk, 0.0) if acceleration >= 0 else min(acceleration + jerk, 0.0)


def stopping_extent(velocity: float, acceleration: float, limit: float, jerk: float) -> tuple[float, float]:
    """Return upper bounds on how far the quickest stop moves backward and forward [rad]; both are at least zero.

    The bounds are those of a stop in continuous time plus one step of delay. `test_braking.py` compares them with the
    stop by `braking_acceleration`.
    """
    if velocity_at_ease(velocity, acceleration, jerk) >= 0:
        forth = _forward_extent(velocity, acceleration, limit, jerk)
        return (0.0 if velocity >= 0 else -velocity * acceleration / jerk), forth
    back = _forward_extent(-velocity, -acceleration, limit, jerk)
    return back, (0.0 if velocity <= 0 else -velocity * acceleration / jerk)


def _forward_extent(velocity: float, acceleration: float, limit: float, jerk: float) -> float:
    smooth = velocity - acceleration / 2
    peak = max(smooth + acceleration * acceleration / (2 * jerk), 0.0)
    if peak * jerk <= limit * limit:  # noqa: SIM108 - one formula a line
        distance = peak * sqrt(peak / jerk)
    else:
        distance = peak * (peak / limit + limit / jerk) / 2
    ramp = acceleration * smooth / jerk + acceleration**3 / (3 * jerk * jerk)
    # Exact would be `distance + ramp - smooth - acceleration / 3`; a delayed step adds at most `peak`.
    return max(distance + ramp - smooth - acceleration / 3 + peak + jerk / 8, 0.0)
