"""Describe each expert of a student on one page, from recorded demonstrations."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import matplotlib
import numpy as np

matplotlib.use('Agg')

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from vdd_ros.common.errors import OutputError, remedied
from vdd_ros.common.output import write_whole
from vdd_ros.common.version import __version__
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.contract.naming import action_names
from vdd_ros.control.policy_interface import PolicyInterface
from vdd_ros.data.bag.bag_views import View
from vdd_ros.policy.labels import Labels
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.tasks import Task
from vdd_ros.validation import pictures
from vdd_ros.validation.recorded import PredictedEpisode

UNUSED = 0.005
"""Share of the demonstrations, and mean probability, below which an expert counts as unused."""
PARTS = 20
"""Number of equal parts of a demonstration for the time line of the experts."""
_TYPICAL = 3
_SAMPLES = 24
"""Maximum number of predicted paths per expert."""
_MUTED, _DEMONSTRATION = '#8c99a6', '#c9d1d9'
_CAMERA_WIDTH = 480
"""Width below which camera images are enlarged [pixels], to keep the lines from covering them."""
_FLAT = 0.02
"""Range of the tool height [m] below which paths are drawn in top view only."""


@dataclass(frozen=True)
class Typical:
    """A demonstration in which an expert has a large share of the ticks."""

    bag: str
    episode: int
    share: float
    """Share of the demonstration's ticks attributed to the expert."""


@dataclass(frozen=True)
class ExpertSummary:
    """Statistics of one expert over the demonstrations."""

    number: int
    share: float
    """Share of the recorded actions attributed to the expert, by its responsibility."""
    probability: float
    """Mean probability under the gating."""
    when: np.ndarray
    """Mean responsibility in each part of the demonstrations, shape (PARTS,)."""
    deviation: np.ndarray
    """Mean standard deviation of the expert's next action at the ticks attributed to it, shape (action,), in the units
    of the contract."""
    typical: tuple[Typical, ...]
    """The demonstrations with the largest contributions of the expert, at most three."""
    recorded: tuple[np.ndarray, ...]
    """Recorded tool paths attributed to the expert, each of shape (point, 3) [m]."""
    predicted: tuple[np.ndarray, ...]
    """Tool paths of the expert's mean chunks from some of the attributed ticks, each of shape (step + 1, 3) [m]."""

    @property
    def is_unused(self) -> bool:
        """Whether both the attributed share and the mean probability of the expert are below `UNUSED`."""
        return max(self.share, self.probability) < UNUSED

    @property
    def acts(self) -> str:
        """The part of a demonstration in which the expert acts, in words."""
        if self.share < UNUSED:
            return 'rarely'
        total = np.cumsum(self.when) / self.when.sum()
        begin, end = (int(np.searchsorted(total, level)) / PARTS for level in (0.1, 0.9))
        return f'{begin:.0%} to {end + 1 / PARTS:.0%} of the episode'


@dataclass(frozen=True)
class CameraViews:
    """Camera images at ticks at which the experts act."""

    views: Mapping[int, View] = field(default_factory=dict)
    """The image at the tick of `acting_tick`, by expert."""
    missing: str = ''
    """Why there are no images; empty if there are."""


def acting_tick(episodes: Sequence[PredictedEpisode], summary: ExpertSummary) -> tuple[PredictedEpisode, int] | None:
    """Return the most typical demonstration of an expert, and the first tick of the longest section in which it acts.

    None for an expert that is never the most responsible one.
    """
    for one in summary.typical:
        for episode in episodes:
            if (episode.bag, episode.index) == (one.bag, one.episode):
                runs = _runs(episode, summary.number)
                if runs:
                    return episode, int(max(runs, key=len)[0])
    return None


def summarise(contract: Contract, episodes: Sequence[PredictedEpisode], kinematics: Kinematics) -> list[ExpertSummary]:
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


def _segments(episode: PredictedEpisode, number: int) -> list[np.ndarray]:
    """Return the parts of the tool path that are attributed to an expert."""
    return [episode.tool[run[0] : run[-1] + 2] for run in _runs(episode, number)]


def _runs(episode: PredictedEpisode, number: int) -> list[np.ndarray]:
    """Return the runs of ticks that are attributed to an expert."""
    at = np.flatnonzero(episode.responsibility.argmax(axis=-1) == number)
    return [run for run in np.split(at, np.flatnonzero(np.diff(at) > 1) + 1) if len(run)]


def _predicted(
    contract: Contract, episodes: Sequence[PredictedEpisode], kinematics: Kinematics, number: int
) -> tuple[np.ndarray, ...]:
    """Return the tool paths of the mean chunks of an expert, from ticks spread over those at which it acts."""
    places = [
        (episode, tick)
        for episode in episodes
        for tick in np.flatnonzero(episode.responsibility.argmax(axis=-1) == number).tolist()
    ]
    chosen = np.unique(np.linspace(0, len(places) - 1, min(len(places), _SAMPLES)).round().astype(int))
    return tuple(
        tool_path(contract, episode, tick, kinematics, number)
        for episode, tick in (places[place] for place in chosen.tolist())
    )


def tool_path(
    contract: Contract, episode: PredictedEpisode, tick: int, kinematics: Kinematics, number: int
) -> np.ndarray:
    """Return the tool path of an expert's mean chunk, starting at a tick, shape (step + 1, 3) [m]."""
    interface = PolicyInterface(contract, kinematics)
    interface.anchor(episode.joints[tick])
    steps = interface.waypoints(episode.mean[tick, number].astype(np.float64), episode.joints[tick]).joints
    steps = steps[np.isfinite(steps).all(axis=-1)]
    return np.concatenate([episode.tool[tick][None], kinematics.tool_position(steps)])


def write_explanation(
    policy: DistilledPolicy,
    episodes: Sequence[PredictedEpisode],
    kinematics: Kinematics,
    target: Path,
    films: Callable[[Sequence[ExpertSummary]], Mapping[int, Path]] | None = None,
    camera: Callable[[Sequence[ExpertSummary]], CameraViews] = lambda found: CameraViews(),
    task: Task | None = None,
) -> list[ExpertSummary]:
    """Write the page atomically, and return its content.

    ``films`` returns the video files by expert number, ``camera`` the images of a camera. ``task`` draws the background
    of the paths in top view.

    Raises
    ------
    OutputError
        The target cannot be written.

    """
    contract, labels = policy.contract, policy.labels
    found = summarise(contract, episodes, kinematics)
    used = sorted((each for each in found if not each.is_unused), key=lambda each: -each.share)
    seen = camera(used)
    places = {each.number: acting_tick(episodes, each) for each in used if each.number in seen.views}
    overlays = {
        each.number: view_picture(
            seen.views[each.number], each, tool_path(contract, *places[each.number], kinematics, each.number), labels
        )
        for each in used
        if each.number in seen.views
    }
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
        pictures={each.number: _embedded(_expert_picture(task, episodes, each, labels)) for each in used},
        map=_embedded(_map_picture(task, episodes, labels)),
        timeline=_embedded(_timeline_picture(used, labels)),
        films={
            number: pictures.data_url(path.read_bytes(), 'video/mp4')
            for number, path in (films(found) if films else {}).items()
        },
        overlays=overlays,
        no_overlays=seen.missing,
        deviation=lambda each: _deviation(contract, each.deviation),
        version=__version__,
    )
    with remedied(OutputError, expected=f'a place for the page at {target}', remedy='choose another path'):
        write_whole(target, page)
    return found


def _deviation(contract: Contract, values: np.ndarray) -> str:
    named = zip(action_names(contract), values, _units(contract))
    return ', '.join(f'{name} {value * scale:.2g} {unit}' for name, value, (scale, unit) in named)


def _units(contract: Contract) -> list[tuple[float, str]]:
    """Return factor and unit of each action value for display; equal for ``delta`` and ``absolute``."""
    found: list[tuple[float, str]] = []
    for feature in contract.actions:
        rate = '/s' if contract.mode_of(feature) == 'velocity' else ''
        for part in range(contract.width(feature)):
            if feature.space == 'tool' and part < len(feature.axes):
                found.append((1000.0, f'mm{rate}'))
            else:
                found.append((1000.0, f'mrad{rate}') if feature.space == 'joint' else (1.0, ''))
    return found


def _views(episodes: Sequence[PredictedEpisode]) -> tuple[tuple[int, int], ...]:
    height = np.concatenate([episode.tool[:, 2] for episode in episodes])
    return ((0, 1),) if np.ptp(height) < _FLAT else ((0, 1), (0, 2))


def _scene(task: Task | None, axes: Axes, view: tuple[int, int], episodes: Sequence[PredictedEpisode]) -> None:
    if task is not None and view == (0, 1):
        task.draw(axes)
    paths = [episode.tool[:, view] for episode in episodes]
    axes.add_collection(LineCollection(paths, colors=_DEMONSTRATION, linewidths=0.6, alpha=0.6, zorder=1))
    if task is None or view != (0, 1):
        axes.autoscale()
        axes.set(xlabel=f'{"xyz"[view[0]]} [m]', ylabel=f'{"xyz"[view[1]]} [m]', aspect='equal')


def _expert_picture(
    task: Task | None, episodes: Sequence[PredictedEpisode], summary: ExpertSummary, labels: Labels
) -> Figure:
    views, colour = _views(episodes), labels.colour(summary.number)
    figure = Figure(figsize=(3.6 * len(views), 3.8), layout='constrained')
    for axes, view in zip(np.atleast_1d(figure.subplots(1, len(views))), views):
        _scene(task, axes, view, episodes)
        recorded = [path[:, view] for path in summary.recorded]
        axes.add_collection(LineCollection(recorded, colors=colour, linewidths=1.2, alpha=0.5, zorder=2))
        for path in summary.predicted:
            ends = path[-1, view], path[-min(3, len(path)), view]
            axes.annotate('', *ends, arrowprops={'arrowstyle': '->', 'lw': 0.8, 'shrinkA': 0, 'shrinkB': 0}, zorder=4)
        predicted = [path[:, view] for path in summary.predicted]
        axes.add_collection(LineCollection(predicted, colors='#22303c', linewidths=0.8, zorder=4))
    return figure


def view_picture(view: View, summary: ExpertSummary, chunk: np.ndarray, labels: Labels) -> str:
    """Draw the paths of an expert over a camera image; return the source of an HTML image.

    The recorded paths attributed to the expert are drawn in its colour. ``chunk``, the path of its mean chunk at the
    time of the image, shape (point, 3) [m], is drawn white with a black border.
    """
    enlarged = -(-_CAMERA_WIDTH // view.image.shape[1])
    image = Image.fromarray(view.image.repeat(enlarged, axis=0).repeat(enlarged, axis=1))
    draw = ImageDraw.Draw(image)

    def pixels(path: np.ndarray) -> np.ndarray:
        return (view.pixels(path) + 0.5) * enlarged - 0.5

    for path in summary.recorded:
        draw_path(draw, pixels(path), labels.colour(summary.number), 1)
    for colour, width in (('#000000', 5), ('#ffffff', 3)):
        draw_path(draw, pixels(chunk), colour, width)
    data = io.BytesIO()
    image.save(data, format='PNG')
    return pictures.data_url(data.getvalue(), 'image/png')


def draw_path(draw: ImageDraw.ImageDraw, pixels: np.ndarray, colour: str, width: int) -> None:
    """Draw a line through pixels of shape (point, 2), interrupted at values that are not finite."""
    known = np.flatnonzero(np.isfinite(pixels).all(axis=-1))
    for run in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1):
        if len(run) > 1:
            draw.line([*map(tuple, pixels[run].tolist())], fill=colour, width=width)


def _map_picture(task: Task | None, episodes: Sequence[PredictedEpisode], labels: Labels) -> Figure:
    """Draw the most probable expert of the gating over the tool position and over the observations."""
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
            _scene(task, axes, view, [])
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
