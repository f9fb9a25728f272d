"""How plans are carried out: when to plan anew, how to join plans."""

from __future__ import annotations

from dataclasses import dataclass

from vdd_ros.common.errors import ConfigurationError


@dataclass(frozen=True)
class Execution:
    """Between the policy's rate and the rate of commands."""

    replan_steps: int = 0
    """Policy ticks from one plan to the next; 0: the contract's `action_horizon`. With 1 the arm plans at every tick at
    which the plan before is ready, and executes the rest of its chunk at the others."""
    coast_steps: int = 8
    """Steps of a chunk beyond those that are due until the next plan: what is done if that plan is late, and what the
    motion is smoothed towards."""
    smoothing: float = 3.0
    """Time constant of the smoothing of waypoints, in policy periods, and at most half of the steps by which a plan
    reaches beyond the next one; 0: every waypoint is passed exactly."""
    blend: float = 1.0
    """How long a plan that arrives late leads over from the motion under way, in policy periods."""
    coherence: float = 0.2
    """How strongly an expert is chosen by the likelihood, under it, of what is left of the chunk under way: 1
    conditions the mixture on it exactly, 0 draws anew for every plan."""
    action_noise_scale: float = 0.0
    """How much of its own spread an expert acts with, drawn for each plan: 0 is its mean, 1 the student's own."""
    speed: float = 1.0
    """How fast plans are carried out, 1 for as planned: the same way, only slower."""

    def __post_init__(self) -> None:
        """Refuse what cannot be carried out."""
        up_to_ten = (self.smoothing, self.coherence, self.action_noise_scale)
        shares = 0 < self.blend <= 10 and all(0 <= value <= 10 for value in up_to_ten) and 0 < self.speed <= 1
        if self.replan_steps < 0 or self.coast_steps < 0 or not shares:
            raise ConfigurationError(
                expected='replan_steps and coast_steps of at least 0, blend above 0 and up to 10, '
                'smoothing, coherence and spread from 0 to 10, speed above 0 and up to 1',
                found=f'{self}',
                remedy='mend the parameters',
            )
