"""Execution of plans: when to compute the next plan, and how to join plans."""

from __future__ import annotations

from dataclasses import dataclass

from vdd_ros.common.errors import ConfigurationError


@dataclass(frozen=True)
class Execution:
    """How plans are executed at control rate: replanning, smoothing, transitions, action noise and speed."""

    replan_steps: int = 0
    """Policy ticks from one plan to the next; 0: the contract's `action_horizon`. With 1, a new plan is requested at
    every tick. While a plan is being computed, the arm executes the rest of the previous chunk."""
    coast_steps: int = 8
    """Number of further steps of a chunk beyond those due until the next plan. They are executed if the next plan is
    late, and used by the smoothing."""
    smoothing: float = 3.0
    """Time constant of the smoothing of waypoints, in policy periods. It is reduced to half of the steps by which a
    plan reaches beyond the start of the next plan. With 0 the motion passes every waypoint exactly."""
    blend: float = 1.0
    """Duration of the transition from the current motion to a plan that arrives late, in policy periods."""
    coherence: float = 0.2
    """Weight, in the choice of an expert, of the log-likelihood of the current chunk's remaining steps under that
    expert. 1 conditions the mixture on the remaining steps exactly; 0 draws a new expert for every plan."""
    action_noise_scale: float = 0.0
    """Scale of the action noise, drawn for each plan, relative to the expert's standard deviation; 0: the mean."""
    speed: float = 1.0
    """Speed of plans, 1 as planned. The path stays the same."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        up_to_ten = (self.smoothing, self.coherence, self.action_noise_scale)
        shares = 0 < self.blend <= 10 and all(0 <= value <= 10 for value in up_to_ten) and 0 < self.speed <= 1
        if self.replan_steps < 0 or self.coast_steps < 0 or not shares:
            raise ConfigurationError(
                expected='replan_steps and coast_steps of at least 0, blend above 0 and up to 10, '
                'smoothing, coherence and action_noise_scale from 0 to 10, speed above 0 and up to 1',
                found=f'{self}',
                remedy='correct the parameters',
            )
