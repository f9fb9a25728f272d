"""Success detector of the Placing task: handle, side of the post, and tray."""

from __future__ import annotations

from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.tasks.placing.layout import MODES, PAN_REST, PLACES, POST, tray_at
from vdd_ros.sim.tasks.task import SuccessDetector, Verdict

MOVING = ('palm', 'rail', 'right_finger', 'right_pad', 'left_finger', 'left_pad', 'pan', 'handle_right')
MOVING += ('handle_left',)
OBSTACLES = ('post',)
_LIFTED = 0.03
_LYING = 0.005
_LEFT_ALONE = 0.02
_AT_REST = 0.02


class PlacingSuccessDetector(SuccessDetector):
    """Success: the pan lies in a tray and is released. Failure: the post was touched or the pan dropped."""

    def __init__(self, tool: str, gripper: str) -> None:
        """Observe the site of the tool point and the joint of the gripper."""
        self._tool = tool
        self._gripper = gripper
        self._choices: dict[str, str] = {}
        self.places = PLACES
        """Centres of the trays: x, y [m]."""

    def judge(self, simulation: Simulation) -> Verdict:
        """Return the state of the episode, determined from the present scene and the course of the episode so far."""
        if simulation.touched(MOVING, OBSTACLES):
            return 'failure'
        pan, choices = simulation.body_position('pan'), self._choices
        if 'handle' not in choices and pan[2] < PAN_REST + _LIFTED:
            return 'running'
        hand = simulation.site_position(self._tool)
        choices.setdefault('handle', 'left' if hand[1] > pan[1] else 'right')
        if 'side' not in choices and hand[1] > POST[1]:
            choices['side'] = 'outside' if hand[0] > POST[0] else 'inside'
        opening = simulation.position[simulation.joints.index(self._gripper)]
        if opening < _LEFT_ALONE or simulation.body_speed('pan') > _AT_REST:
            return 'running'
        tray = tray_at(pan, self.places)
        if tray is None or abs(pan[2] - PAN_REST) > _LYING:
            return 'failure'
        choices['tray'] = tray
        # A pan that never passed the post was thrown: not one of the modes.
        return 'success' if 'side' in choices else 'failure'

    @property
    def mode(self) -> int | None:
        """Index of the mode; None until the pan lies in a tray."""
        mode = tuple(self._choices.get(name) for name in ('handle', 'side', 'tray'))
        return MODES.index(mode) if mode in MODES else None
