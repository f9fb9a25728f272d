"""What each expert of a student is for: one page for people, from recorded demonstrations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import matplotlib
import numpy as np

matplotlib.use('Agg')

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from vdd_ros import __version__
from vdd_ros.common.errors import OutputError
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.contract.naming import action_names
from vdd_ros.control.policy_interface import PolicyInterface
from vdd_ros.policy.labels import Labels
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.tasks import task_of
from vdd_ros.validation import pictures
from vdd_ros.validation.recorded import AnsweredEpisode

UNUSED = 0.005
"""Share of the demonstrations, and mean probability, below which an expert counts as unused."""
PARTS = 20
"""Into so many parts of equal length a demonstration is divided, to show when an expert acts."""
_TYPICAL = 3
_SAMPLES = 24
"""Ticks of an expert from which its predicted path is drawn."""
_MUTED, _DEMONSTRATION = '#8c99a6', '#c9d1d9'
_FLAT = 0.02
"""Range of the tool's height [m] below which the paths are drawn from above only."""


@dataclass(frozen=True)
class Typical:
    """A demonstration to which an expert contributes most."""

    bag: str
    episode: int
    share: float
    """Of its ticks that are attributed to the expert."""


@dataclass(frozen=True)
class ExpertSummary:
    """One expert over the demonstrations."""

    number: int
    share: float
    """Share of the recorded actions that are attributed to it, by its responsibility."""
    probability: float
    """Mean probability under the gating."""
    when: np.ndarray
    """Its mean responsibility in each part of the demonstrations, shape (PARTS,)."""
    deviation: np.ndarray
    """Mean standard deviation of its next action where it acts, shape (action,), in the units of the contract."""
    typical: tuple[Typical, ...]
    """The demonstrations to which it contributes most, at most three."""
    recorded: tuple[np.ndarray, ...]
    """Recorded tool paths where it is the recorded expert, each of shape (point, 3) [m]."""
    predicted: tuple[np.ndarray, ...]
    """Tool paths of its mean chunks from some of these ticks, each of shape (step + 1, 3) [m]."""

    @property
    def is_unused(self) -> bool:
        """Whether it neither explains the demonstrations nor is chosen."""
        return max(self.share, self.probability) < UNUSED

    @property
    def acts(self) -> str:
        """When it acts, in words."""
        if self.share < UNUSED:
            return 'hardly ever'
        total = np.cumsum(self.when) / self.when.sum()
        begin, end = (int(np.searchsorted(total, level)) / PARTS for level in (0.1, 0.9))
        return f'{begin:.0%} to {end + 1 / PARTS:.0%} of the way'


def summarise(contract: Contract, episodes: Sequence[AnsweredEpisode], kinematics: Kinematics) -> list[ExpertSummary]:
    """Summarise every expert of a student over some demonstrations.

    ``acts`` covers the middle 80 % of the responsibility.
    """
    responsibility = np.concatenate([episode.responsibility for episode in episodes])
    gating = np.exp(np.concatenate([episode.log_gating for episode in episodes]))
    deviation = np.concatenate([episode.deviation for episode in episodes])
    part = np.concatenate([np.arange(len(each)) * PARTS // len(each) for each in episodes])
    recorded_expert = responsibility.argmax(axis=-1)
    found = []
    for number in range(responsibility.shape[1]):
        own = responsibility[:, number]
        shares = np.array([episode.responsibility[:, number].mean() for episode in episodes])
        best = [place for place in np.argsort(-shares)[:_TYPICAL] if shares[place] >= UNUSED]
        at = recorded_expert == number
        found.append(
            ExpertSummary(
                number,
                float(own.mean()),
                float(gating[:, number].mean()),
                np.array([own[part == place].mean() if (part == place).any() else 0.0 for place in range(PARTS)]),
                deviation[at].mean(axis=0) if at.any() else np.full(deviation.shape[1], np.nan),
                tuple(Typical(episodes[place].bag, episodes[place].index, float(shares[place])) for place in best),
                tuple(path for episode in episodes for path in _segments(episode, number)),
                _predicted(contract, episodes, kinematics, number),
            )
        )
    return found


def _segments(episode: AnsweredEpisode, number: int) -> list[np.ndarray]:
    """Return the parts of the tool's path on which an expert is the recorded one."""
    at = np.flatnonzero(episode.responsibility.argmax(axis=-1) == number)
    runs = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)
    return [episode.tool[run[0] : run[-1] + 2] for run in runs if len(run)]


def _predicted(
    contract: Contract, episodes: Sequence[AnsweredEpisode], kinematics: Kinematics, number: int
) -> tuple[np.ndarray, ...]:
    """Return where the mean chunks of an expert bring the tool, from ticks spread over those at which it acts."""
    places = [
        (episode, tick)
        for episode in episodes
        for tick in np.flatnonzero(episode.responsibility.argmax(axis=-1) == number).tolist()
    ]
    chosen = np.unique(np.linspace(0, len(places) - 1, min(len(places), _SAMPLES)).round().astype(int))
    paths = []
    for place in chosen.tolist():
        episode, tick = places[place]
        interface = PolicyInterface(contract, kinematics)
        interface.anchor(episode.joints[tick])
        steps = interface.waypoints(episode.mean[tick, number].astype(np.float64), episode.joints[tick]).joints
        steps = steps[np.isfinite(steps).all(axis=-1)]
        paths.append(np.concatenate([episode.tool[tick][None], kinematics.tool_position(steps)]))
    return tuple(paths)


def write_explanation(
    policy: DistilledPolicy, episodes: Sequence[AnsweredEpisode], kinematics: Kinematics, target: Path
) -> list[ExpertSummary]:
    """Write the page, aside first, and return what it shows.

    Raises
    ------
    OutputError
        It cannot be written there.

    """
    contract, labels = policy.contract, policy.labels
    found = summarise(contract, episodes, kinematics)
    used = sorted((each for each in found if not each.is_unused), key=lambda each: -each.share)
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    templates = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    page = templates.get_template('explain.html').render(
        contract=contract.name,
        artifact=policy.artifact,
        labels=labels,
        used=used,
        unused=[each for each in found if each.is_unused],
        demonstrations=len(episodes),
        bags=sorted({episode.bag for episode in episodes}),
        seconds=sum(map(len, episodes)) * contract.period / NANOSECONDS,
        pictures={each.number: _embedded(_expert_picture(contract, episodes, each, labels)) for each in used},
        map=_embedded(_map_picture(contract, episodes, labels)),
        timeline=_embedded(_timeline_picture(used, labels)),
        deviation=lambda each: _deviation(contract, each.deviation),
        version=__version__,
    )
    aside = target.with_name(f'.{target.name}.partial')
    try:
        aside.write_text(page, encoding='utf-8')
        aside.replace(target)
    except OSError as error:
        raise OutputError(
            expected=f'a place for the page at {target}', found=str(error.strerror), remedy='choose another path'
        ) from error
    return found


def _deviation(contract: Contract, values: np.ndarray) -> str:
    named = zip(action_names(contract), values, _units(contract))
    return ', '.join(f'{name} {value * scale:.2g} {unit}' for name, value, (scale, unit) in named)


def _units(contract: Contract) -> list[tuple[float, str]]:
    """Return factor and unit of each number of an action, for people; ``delta`` and ``absolute`` alike."""
    found: list[tuple[float, str]] = []
    for feature in contract.actions:
        rate = '/s' if contract.mode_of(feature) == 'velocity' else ''
        for part in range(contract.width(feature)):
            if feature.space == 'tool' and part < len(feature.axes):
                found.append((1000.0, f'mm{rate}'))
            else:
                found.append((1000.0, f'mrad{rate}') if feature.space == 'joint' else (1.0, ''))
    return found


def _views(episodes: Sequence[AnsweredEpisode]) -> tuple[tuple[int, int], ...]:
    height = np.concatenate([episode.tool[:, 2] for episode in episodes])
    return ((0, 1),) if np.ptp(height) < _FLAT else ((0, 1), (0, 2))


def _scene(contract: Contract, axes: Axes, view: tuple[int, int], episodes: Sequence[AnsweredEpisode]) -> None:
    task = task_of(contract)
    if task is not None and view == (0, 1):
        task.draw(axes)
    paths = [episode.tool[:, view] for episode in episodes]
    axes.add_collection(LineCollection(paths, colors=_DEMONSTRATION, linewidths=0.6, alpha=0.6, zorder=1))
    if task is None or view != (0, 1):
        axes.autoscale()
        axes.set(xlabel=f'{"xyz"[view[0]]} [m]', ylabel=f'{"xyz"[view[1]]} [m]', aspect='equal')


def _expert_picture(
    contract: Contract, episodes: Sequence[AnsweredEpisode], summary: ExpertSummary, labels: Labels
) -> Figure:
    views, colour = _views(episodes), labels.colour(summary.number)
    figure = Figure(figsize=(3.6 * len(views), 3.8), layout='constrained')
    for axes, view in zip(np.atleast_1d(figure.subplots(1, len(views))), views):
        _scene(contract, axes, view, episodes)
        recorded = [path[:, view] for path in summary.recorded]
        axes.add_collection(LineCollection(recorded, colors=colour, linewidths=1.2, alpha=0.5, zorder=2))
        for path in summary.predicted:
            ends = path[-1, view], path[-min(3, len(path)), view]
            axes.annotate('', *ends, arrowprops={'arrowstyle': '->', 'lw': 0.8, 'shrinkA': 0, 'shrinkB': 0}, zorder=4)
        predicted = [path[:, view] for path in summary.predicted]
        axes.add_collection(LineCollection(predicted, colors='#22303c', linewidths=0.8, zorder=4))
    return figure


def _map_picture(contract: Contract, episodes: Sequence[AnsweredEpisode], labels: Labels) -> Figure:
    """Draw the likeliest expert by the gating over the tool's position and over the observations."""
    gating = np.exp(np.concatenate([episode.log_gating for episode in episodes]))
    tool = np.concatenate([episode.tool for episode in episodes])
    observation = np.concatenate([episode.observation for episode in episodes])
    likeliest, certainty = gating.argmax(axis=-1), gating.max(axis=-1)
    colours = np.array([labels.colour(expert) for expert in range(gating.shape[1])])[likeliest]
    panels: list[tuple[np.ndarray, str, str, tuple[int, int] | None]] = [
        (tool[:, view], f'tool {"xyz"[view[0]]} [m]', f'tool {"xyz"[view[1]]} [m]', view) for view in _views(episodes)
    ]
    if observation.shape[1] > 2:
        scale = observation.std(axis=0)
        whitened = (observation - observation.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
        directions = np.linalg.svd(whitened, full_matrices=False)[2][:2]
        panels.append((whitened @ directions.T, 'first principal component', 'second principal component', None))
    figure = Figure(figsize=(5.2 * len(panels), 5.6), layout='constrained')
    for axes, (points, horizontal, vertical, view) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels):
        if view is not None:
            _scene(contract, axes, view, [])
        axes.scatter(*points.T, c=colours, s=2 + 14 * certainty, linewidths=0, alpha=0.7, zorder=3)
        axes.set(xlabel=horizontal, ylabel=vertical)
    return figure


def _timeline_picture(used: Sequence[ExpertSummary], labels: Labels) -> Figure:
    figure = Figure(figsize=(10.4, 2.8), layout='constrained')
    axes = figure.subplots()
    places = (np.arange(PARTS) + 0.5) / PARTS
    axes.stackplot(places, *(each.when for each in used), colors=[labels.colour(each.number) for each in used])
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel='part of the demonstration', ylabel='share of the experts')
    return figure


def _embedded(figure: Figure) -> str:
    return pictures.data_url(pictures.drawn(figure, vector=False), 'image/png')
