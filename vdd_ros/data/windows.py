"""Cut episodes into the windows that a policy is trained on. Arrays only."""

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
from vdd_ros.policy.observation import AnyObservation, Observation


@dataclass(frozen=True)
class WindowArrays:
    """All windows of some episodes, in the units of the contract."""

    observation: np.ndarray | RowWindows
    """Shape (window, observation_horizon, observation), oldest step first. With images: indices into stored rows."""
    action: np.ndarray
    """Shape (window, prediction_horizon, action)."""
    step: np.ndarray
    """Shape (window, action): change of the commanded value."""
    episode: np.ndarray | None = None
    """Shape (window,): index of the window's demonstration in `names`; None if unknown."""
    names: tuple[str, ...] = ()
    """Names of the demonstrations."""
    images: Mapping[str, RowWindows] = field(default_factory=dict)
    """Images by name, for contracts of version 3: indices of the distinct images for each time step of each window."""

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.action)

    def __getitem__(self, rows: np.ndarray) -> WindowArrays:
        """Return the windows with the given indices."""
        episode = None if self.episode is None else self.episode[rows]
        images = {name: windows[rows] for name, windows in self.images.items()}
        return WindowArrays(self.observation[rows], self.action[rows], self.step[rows], episode, self.names, images)


def observed(windows: WindowArrays, rows: slice | np.ndarray, contract: Contract) -> AnyObservation:
    """Return some windows in the form that a policy receives: dense vectors, and images if the contract has any."""
    vector = np.asarray(windows.observation[rows])
    images = {}
    for feature in contract.arrays:
        shown = windows.images[feature.name]
        (frames,), places = shown.rows.parts, shown.places[rows]
        pixels = np.stack([frames.rows[place] for place in places.ravel().tolist()])
        images[feature.name] = pixels.reshape(*places.shape, *feature.shape)
    return Observation(vector, images) if images else vector


def windows_of(episodes: Sequence[Episode], contract: Contract) -> WindowArrays:
    """Cut episodes into windows, one for each tick.

    Observations before the start repeat the first one, as on the live arm. Actions after the end repeat the last one:
    the arm stands still in `absolute` mode and continues to move in `delta` mode.

    Raises
    ------
    TrainingError
        There are no episodes, or the arrays of one have a wrong width or contain NaN or infinity.

    """
    if not episodes:
        raise TrainingError(
            expected='at least one episode', found='none', remedy='record demonstrations, or keep those that succeed'
        )
    for number, episode in enumerate(episodes):
        _check_width(episode, number, contract)
    observations, actions, steps = [], [], []
    images: dict[str, list[RowWindows]] = {feature.name: [] for feature in contract.arrays}
    factors = change_factors(contract)
    back = np.arange(contract.observation_horizon - 1, -1, -1) * contract.observation_stride
    ahead = np.arange(contract.prediction_horizon)
    for episode in episodes:
        ticks = np.arange(len(episode))[:, None]
        rows, places = episode.observation, np.maximum(ticks - back, 0)
        observations.append(rows[places] if isinstance(rows, np.ndarray) else RowWindows(rows, places))
        actions.append(episode.action[np.minimum(ticks + ahead, len(episode) - 1)])
        for name, parts in images.items():
            parts.append(RowWindows(Rows([episode.images[name]]), places))
        following = np.diff(episode.action, axis=0, prepend=episode.action[:1])
        steps.append(np.where(np.isnan(factors), following, episode.action * factors))
    held = all(isinstance(item, RowWindows) for item in observations)
    observation = RowWindows.joined(observations) if held else np.concatenate(observations)
    # Parts of one demonstration, split by gaps, share a name.
    names = [f'episode {item.index} of {item.bag}' if item.bag else f'episode {n}' for n, item in enumerate(episodes)]
    known = {name: number for number, name in enumerate(dict.fromkeys(names))}
    number = np.repeat([known[name] for name in names], [len(episode) for episode in episodes])
    shown = {name: RowWindows.joined(parts) for name, parts in images.items()}
    return WindowArrays(observation, np.concatenate(actions), np.concatenate(steps), number, tuple(known), shown)


def _check_width(episode: Episode, number: int, contract: Contract) -> None:
    """Check that the arrays of an episode match the contract."""
    where = f'episode {episode.index} of {episode.bag}' if episode.bag else f'episode {number}'
    _refuse_foreign_images(episode, where, contract)
    for name, values, size in (
        ('observation', episode.observation, contract.observation_size),
        ('action', episode.action, contract.action_size),
    ):
        if values.shape[1] != size:
            raise TrainingError(
                expected=f'{size} numbers in each {name}, as in the contract {contract.name}',
                found=f'{values.shape[1]} in {where}',
                remedy='create the episodes with this contract',
            )
        if (strange := Rows([values]).strange() if isinstance(values, np.ndarray) else values.strange()) is not None:
            row, column = strange
            raise TrainingError(
                expected=f'finite numbers in each {name}',
                found=f'{values[row, column]} in row {row}, column {column} of {where}',
                remedy='drop the episodes with such numbers',
            )


def _refuse_foreign_images(episode: Episode, where: str, contract: Contract) -> None:
    """Refuse an episode whose images are not those of the contract."""
    wanted = {feature.name: feature.size for feature in contract.arrays}
    found = {name: frames.shape[1] for name, frames in episode.images.items()}
    if found != wanted:
        raise TrainingError(
            expected=f'the images {wanted} of {contract.name}, by their numbers of pixels times channels',
            found=f'{found} in {where}',
            remedy='make the episodes with this contract',
        )


def windows_from(observation: np.ndarray, action: np.ndarray, contract: Contract) -> WindowArrays:
    """Build windows from arrays, for example from another library.

    Parameters
    ----------
    observation
        Shape (window, observation_horizon, observation), oldest time step first. If the horizon is 1, its axis may be
        left out.
    action
        Shape (window, prediction_horizon, action). If the horizon is 1, its axis may be left out.
    contract
        Defines the shapes.

    Raises
    ------
    TrainingError
        A shape does not match, the lengths differ or are zero, or a number is not finite.

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
                remedy='reshape the array, or change the contract',
            )
        if not (finite := np.isfinite(array)).all():
            row, step, column = (int(place[0]) for place in np.nonzero(~finite))
            raise TrainingError(
                expected=f'finite numbers in each {name}',
                found=f'{array[row, step, column]} in window {row}, step {step}, column {column}',
                remedy='drop the windows with such numbers',
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
    """Split `count` items at random into training and held-out items; at least one item is held out for evaluation.

    If ``share`` holds out no item, one training item also serves as the held-out item.
    """
    order = np.random.default_rng(seed).permutation(count)
    kept_back = min(round(share * count), count - 1)
    return order[kept_back:], order[: max(kept_back, 1)]


@dataclass(frozen=True)
class Demonstrations:
    """A data set for learning: training windows and held-out windows.

    `vdd_ros.data.demonstrations.load_demonstrations` creates it from bags, `from_episodes` and `from_windows` from
    arrays.
    """

    contract: Contract
    train: WindowArrays
    held_out: WindowArrays
    """Windows of whole demonstrations that training does not use. Parts split by gaps are never separated."""
    record: DataRecord
    report: ConversionReport = field(default_factory=ConversionReport)
    """Dropped data, with reasons."""

    @classmethod
    def from_episodes(
        cls, episodes: Sequence[Episode], contract: Contract, *, held_out: float = 0.1, seed: int = 0
    ) -> Demonstrations:
        """Cut episodes into windows and hold out whole demonstrations.

        Parameters
        ----------
        episodes
            One for each demonstration. Parts of a demonstration that was split by a gap share `Episode.bag` and
            `Episode.index`, and are held out together.
        contract
            Defines widths and horizons.
        held_out
            Share of the demonstrations that training does not use.
        seed
            Seed of the random selection of held-out demonstrations.

        Raises
        ------
        TrainingError
            There are no episodes, or one has a wrong width or numbers that are not finite.

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
        """Use windows as given and hold out a random share. Arguments and errors as for `windows_from`."""
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
        """Split demonstrations, each given as its parts, into training and held-out ones."""
        parts = held_out_of(len(shown), held_out, seed) if shown else ([], [])
        train, judge = (windows_of([episode for place in part for episode in shown[place]], contract) for part in parts)
        record = DataRecord(bags=dict(bags), episodes=len(shown), windows=len(train))
        return cls(contract, train, judge, record, report)

    def __post_init__(self) -> None:
        """Check that the windows match the contract."""
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
