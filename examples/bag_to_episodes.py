"""Convert a bag to episodes as arrays, and list dropped data: `bag_to_episodes.py BAG --contract CONTRACT`.

The contract defines the observed topics and the action. `vdd contract init BAG` drafts one.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import tyro

import vdd_ros
from vdd_ros.robot.kinematics import Kinematics


def main(bag: tyro.conf.Positional[Path], contract: str = 'avoiding_cartesian') -> tuple[vdd_ros.Episode, ...]:
    """Read a bag, and return its episodes.

    Parameters
    ----------
    bag
        The recording: a folder or a file, MCAP or sqlite3.
    contract
        A YAML file, or the name of a shipped contract.

    """
    agreed = vdd_ros.load_contract(contract)
    episodes, report = vdd_ros.load_bag(bag, agreed, partial(Kinematics.from_contract, agreed))
    for number, episode in enumerate(episodes):
        outcome = {True: 'success', False: 'failure', None: 'not marked'}[episode.success]
        print(
            f'episode {number}: {len(episode)} ticks at {agreed.policy_rate:g} Hz, {outcome}, '
            f'observation {episode.observation.shape}, action {episode.action.shape}'
        )
    for line in report.lines():
        print('dropped:', line)
    windows = vdd_ros.windows_of(episodes, agreed)
    print(f'{len(windows)} windows: observation {windows.observation.shape}, action {windows.action.shape}')
    return episodes


if __name__ == '__main__':
    tyro.cli(main)
