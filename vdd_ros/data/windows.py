"""From episodes to the windows that a policy is trained on: arrays alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vdd_ros.common.errors import TrainingError
from vdd_ros.contract.contract import Contract
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.decode import change_factors
from vdd_ros.data.decode.frames import Rows, RowWindows
from vdd_ros.data.episode import Episode
from vdd_ros.policy.artifact import DataRecord


@dataclass(frozen=True)
class WindowArrays:
    """Every window of some episodes, in the units of the contract."""

    observation: np.ndarray | RowWindows
    """Shape (window, observation_horizon, observation), oldest stamp first; with pictures, places in their rows."""
    action: np.ndarray
    """Shape (window, prediction_horizon, action)."""
    step: np.ndarray
    """Shape (window, action): by how much the commanded value changed."""
    episode: np.ndarray | None = None
    """Shape (window,): the number of the demonstration that a window is of, in `names`; None where that is unknown."""
    names: tuple[str, ...] = ()
    """What the demonstrations are called."""

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.action)

    def __getitem__(self, rows: np.ndarray) -> WindowArrays:
        """Return some of the windows, by their indices."""
        episode = None if self.episode is None else self.episode[rows]
        return WindowArrays(self.observation[rows], self.action[rows], self.step[rows], episode, self.names)


def windows_of(episodes: Sequence[Episode], contract: Contract) -> WindowArrays:
    """Cut episodes into windows, one for each tick.

    Where an episode has no older observation, its first stands in, as on the live arm. Where a chunk reaches past the
    end, the last action is repeated; in `absolute` mode that is standing still, in `delta` mode going on.

    Raises
    ------
    TrainingError
        There are no episodes, or the arrays of one are not as wide as the contract says or hold NaN or infinity.

    """
    if not episodes:
        raise TrainingError(
            expected='at least one episode', found='none', remedy='record demonstrations, or keep those that succeed'
        )
    for number, episode in enumerate(episodes):
        _refuse_foreign(episode, number, contract)
    observations, actions, steps = [], [], []
    factors = change_factors(contract)
    back = np.arange(contract.observation_horizon - 1, -1, -1) * contract.observation_stride
    ahead = np.arange(contract.prediction_horizon)
    for episode in episodes:
        ticks = np.arange(len(episode))[:, None]
        rows, places = episode.observation, np.maximum(ticks - back, 0)
        observations.append(rows[places] if isinstance(rows, np.ndarray) else RowWindows(rows, places))
        actions.append(episode.action[np.minimum(ticks + ahead, len(episode) - 1)])
        following = np.diff(episode.action, axis=0, prepend=episode.action[:1])
        steps.append(np.where(np.isnan(factors), following, episode.action * factors))
    held = all(isinstance(item, RowWindows) for item in observations)
    observation = RowWindows.joined(observations) if held else np.concatenate(observations)
    # Parts of one demonstration, which gaps have split, have one name.
    names = [f'episode {item.index} of {item.bag}' if item.bag else f'episode {n}' for n, item in enumerate(episodes)]
    known = {name: number for number, name in enumerate(dict.fromkeys(names))}
    number = np.repeat([known[name] for name in names], [len(episode) for episode in episodes])
    return WindowArrays(observation, np.concatenate(actions), np.concatenate(steps), number, tuple(known))


def _refuse_foreign(episode: Episode, number: int, contract: Contract) -> None:
    """Refuse an episode whose arrays do not follow the contract."""
    where = f'episode {episode.index} of {episode.bag}' if episode.bag else f'episode {number}'
    for name, values, size in (
        ('observation', episode.observation, contract.observation_size),
        ('action', episode.action, contract.action_size),
    ):
        if values.shape[1] != size:
            raise TrainingError(
                expected=f'{size} numbers in each {name}, as in the contract {contract.name}',
                found=f'{values.shape[1]} in {where}',
                remedy='make the episodes with this contract',
            )
        if (strange := Rows([values]).strange() if isinstance(values, np.ndarray) else values.strange()) is not None:
            row, column = strange
            raise TrainingError(
                expected=f'finite numbers in each {name}',
                found=f'{values[row, column]} in row {row}, column {column} of {where}',
                remedy='drop the episodes that hold such numbers',
            )


def windows_from(observation: np.ndarray, action: np.ndarray, contract: Contract) -> WindowArrays:
    """Check windows that are there as arrays, such as those of another library.

    Parameters
    ----------
    observation
        Shape (window, observation_horizon, observation), oldest time step first. Without the axis of the horizon if
        that is 1.
    action
        Shape (window, prediction_horizon, action). Without the axis of the horizon if that is 1.
    contract
        Says the shapes.

    Raises
    ------
    TrainingError
        A shape is another, the arrays have different lengths or none, or a number is not finite.

    """
    shapes = {
        'observation': (contract.observation_horizon, contract.observation_size),
        'action': (contract.prediction_horizon, contract.action_size),
    }
    checked = {}
    for name, values in (('observation', observation), ('action', action)):
        array, (horizon, width) = np.asarray(values, dtype=np.float64), shapes[name]
        if array.ndim == 2 and horizon == 1:
            array = array[:, None]
        if array.ndim != 3 or array.shape[1:] != (horizon, width) or not len(array):
            raise TrainingError(
                expected=f'{name} of shape (window, {horizon}, {width}), as in the contract {contract.name}',
                found=f'shape {np.shape(values)}',
                remedy='reshape the array, or make the contract for its shape',
            )
        if not (finite := np.isfinite(array)).all():
            row, step, column = (int(place[0]) for place in np.nonzero(~finite))
            raise TrainingError(
                expected=f'finite numbers in each {name}',
                found=f'{array[row, step, column]} in window {row}, step {step}, column {column}',
                remedy='drop the windows that hold such numbers',
            )
        checked[name] = array
    if len(checked['observation']) != len(checked['action']):
        raise TrainingError(
            expected='an action for each observation',
            found=f'{len(checked["observation"])} observations and {len(checked["action"])} actions',
            remedy='give both arrays the same length',
        )
    actions, factors = checked['action'], change_factors(contract)
    following = actions[:, 1] - actions[:, 0] if contract.prediction_horizon > 1 else np.zeros_like(actions[:, 0])
    steps = np.where(np.isnan(factors), following, actions[:, 0] * factors)
    return WindowArrays(checked['observation'], actions, steps)


def held_out_of(count: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw which of `count` items are learned from, and which are held out: where none would be, one of the former."""
    order = np.random.default_rng(seed).permutation(count)
    kept_back = min(round(share * count), count - 1)
    return order[kept_back:], order[: max(kept_back, 1)]


@dataclass(frozen=True)
class Demonstrations:
    """What is learned from: windows to train on, and windows to judge by.

    From bags it comes by `vdd_ros.data.demonstrations.load_demonstrations`, from arrays by `from_episodes` or
    `from_windows`.
    """

    contract: Contract
    train: WindowArrays
    held_out: WindowArrays
    """Windows of whole demonstrations that no update sees: all parts of one that gaps have split lie on one side."""
    record: DataRecord
    report: ConversionReport = field(default_factory=ConversionReport)
    """What was dropped on the way, and why."""

    @classmethod
    def from_episodes(
        cls, episodes: Sequence[Episode], contract: Contract, *, held_out: float = 0.1, seed: int = 0
    ) -> Demonstrations:
        """Cut episodes into windows; whole demonstrations are held out.

        Parameters
        ----------
        episodes
            One for each demonstration. Those that a gap has split share `Episode.bag` and `Episode.index`, and are held
            out together.
        contract
            Says the widths and the horizons.
        held_out
            Share of the demonstrations that no update sees.
        seed
            Draws which ones.

        Raises
        ------
        TrainingError
            There are no episodes, or one has other widths than the contract or numbers that are not finite.

        """
        shown: dict[object, list[Episode]] = {}
        for number, episode in enumerate(episodes):
            shown.setdefault((episode.bag, episode.index) if episode.bag else number, []).append(episode)
        return cls.divided(
            list(shown.values()), contract, held_out=held_out, seed=seed, bags={}, report=ConversionReport()
        )

    @classmethod
    def from_windows(
        cls, observation: np.ndarray, action: np.ndarray, contract: Contract, *, held_out: float = 0.1, seed: int = 0
    ) -> Demonstrations:
        """Take windows as they are, and hold some out at random; arguments and errors as those of `windows_from`."""
        arrays = windows_from(observation, action, contract)
        train, judge = held_out_of(len(arrays), held_out, seed)
        record = DataRecord(bags={}, episodes=len(arrays), windows=len(train))
        return cls(contract, arrays[train], arrays[judge], record)

    @classmethod
    def divided(
        cls,
        shown: Sequence[Sequence[Episode]],
        contract: Contract,
        *,
        held_out: float,
        seed: int,
        bags: Mapping[str, str],
        report: ConversionReport,
    ) -> Demonstrations:
        """Divide demonstrations, each as its parts, into those that are learned from and those that are held out."""
        parts = held_out_of(len(shown), held_out, seed) if shown else ([], [])
        train, judge = (windows_of([episode for place in part for episode in shown[place]], contract) for part in parts)
        record = DataRecord(bags=dict(bags), episodes=len(shown), windows=len(train))
        return cls(contract, train, judge, record, report)

    def __post_init__(self) -> None:
        """Refuse windows that do not follow the contract."""
        contract = self.contract
        observation = (contract.observation_horizon, contract.observation_size)
        action = (contract.prediction_horizon, contract.action_size)
        for part, arrays in (('train', self.train), ('held_out', self.held_out)):
            shapes = arrays.observation.shape[1:], arrays.action.shape[1:], arrays.step.shape[1:]
            if shapes != (observation, action, action[1:]):
                raise TrainingError(
                    expected=f'windows of the shapes {observation}, {action} and {action[1:]} of {contract.name}',
                    found=f'{", ".join(map(str, shapes))} in {part}',
                    remedy='cut the episodes into windows with this contract (windows_of)',
                )
