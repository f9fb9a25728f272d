"""Explain the experts of a student, and name them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from vdd_ros.commands.echo import beside, echo, out
from vdd_ros.commands.reading import ReadsBags
from vdd_ros.common.console import Bars

if TYPE_CHECKING:
    from vdd_ros.contract.contract import Contract
    from vdd_ros.validation.explain import CameraViews, ExpertSummary
    from vdd_ros.validation.recorded import PredictedEpisode


@dataclass(frozen=True)
class Explain(ReadsBags):
    """Write one page on the experts of a student: when each expert acts, its motion, and its uncertainty.

    The page is a single file. Names and colours of experts are the same as in RViz and in the diagnostics. `vdd label`
    names experts.
    """

    student: Annotated[Path, tyro.conf.Positional]
    """The artifact of the student."""
    bags: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Recordings of demonstrations, for example the training data."""
    html: Path | None = None
    """The page; by default STUDENT.experts.html."""
    video: bool = False
    """Record videos of the most typical demonstrations of each expert, in the scene of the task. Needs EGL and the
    extra `video`."""
    task: str = ''
    """The task whose scene is drawn and filmed, as for `vdd validate`; default: the task of the contract."""
    camera: str = ''
    """Topic with images on which the paths are drawn. The recordings must contain its `camera_info` and the transforms.
    Default: the first topic with both, images of the contract before others."""
    frame: str = ''
    """Frame of the robot model in the transforms. Default: the root link of a URDF, `world` of an MJCF."""

    def run(self) -> None:
        """Run the command."""
        from vdd_ros.common.errors import BagError
        from vdd_ros.policy.policy import DistilledPolicy
        from vdd_ros.robot.kinematics import Kinematics
        from vdd_ros.sim.tasks import resolve_task, task_of
        from vdd_ros.validation.expert_films import film_experts
        from vdd_ros.validation.explain import write_explanation
        from vdd_ros.validation.recorded import predicted_episodes

        policy = DistilledPolicy.load(self.student)
        needs_task = bool(self.task) or self.video
        task = resolve_task(self.task, policy.contract) if needs_task else task_of(policy.contract)
        kinematics = Kinematics.from_contract(policy.contract)
        with Bars(out) as bars:
            episodes = predicted_episodes(policy, self.bags, kinematics, bars)
        if not episodes:
            raise BagError(
                expected='successful demonstrations', found='none', remedy='give recordings of demonstrations'
            )
        target = self.html or beside(self.student, 'experts.html')
        with TemporaryDirectory() as folder, Bars(out) as bars:
            more = {'kinematics': kinematics, 'folder': Path(folder), 'progress': bars}
            films = partial(film_experts, policy, task, episodes, **more) if self.video and task is not None else None
            found = write_explanation(
                policy,
                episodes,
                kinematics,
                target,
                films,
                lambda found: self._views(policy.contract, episodes, found),
                task,
            )
        table = Table('expert', 'share of demonstrations', 'probability', 'acts in', box=SIMPLE)
        for each in sorted(found, key=lambda each: -each.share):
            name = escape(policy.labels.text(each.number))
            colour = policy.labels.colour(each.number)
            acts = 'unused' if each.is_unused else each.acts
            table.add_row(f'[{colour}]■[/] {name}', f'{each.share:.1%}', f'{each.probability:.1%}', acts)
        out.print(table)
        echo(f'wrote {target}')

    def _views(
        self, contract: Contract, episodes: Sequence[PredictedEpisode], experts: Sequence[ExpertSummary]
    ) -> CameraViews:
        """Return what a camera of the recordings showed when the experts acted, or why there is none."""
        from vdd_ros.common.errors import BagError
        from vdd_ros.common.share import model_path
        from vdd_ros.data.bag.bag_views import View, read_views
        from vdd_ros.robot.urdf import model_frame
        from vdd_ros.validation.explain import CameraViews, acting_tick

        frame = self.frame or model_frame(model_path(contract.robot.model))
        preferred = [feature.topic for feature in contract.topic_features if feature.image is not None]
        acting = {each.number: place for each in experts if (place := acting_tick(episodes, each)) is not None}
        views: dict[int, View] = {}
        for bag in self.bags:
            inside = {number: at for number, at in acting.items() if at[0].bag == bag.name and number not in views}
            stamps = [int(episode.stamps[tick]) for episode, tick in inside.values()]
            try:
                views |= zip(inside, read_views(bag, frame, stamps, self.camera, preferred) if stamps else ())
            except BagError as error:
                if self.camera:
                    raise
                return CameraViews(missing=f'expected {error.expected}; found {error.found}')
        return CameraViews(views)


@dataclass(frozen=True)
class LabelCommand:
    """Name an expert of a student, or remove its name.

    The name appears in reports, markers, diagnostics and rules. Names are stored in labels.yaml in the folder of the
    artifact, together with the hash of the artifact. They do not change this hash, so the validation stays valid.
    """

    student: Annotated[Path, tyro.conf.Positional]
    """The artifact of the student."""
    expert: Annotated[int | None, tyro.conf.Positional] = None
    """The number of the expert; without a number, the names are listed."""
    name: Annotated[str, tyro.conf.Positional] = ''
    """Name of the expert; by default its name is removed."""
    colour: str = ''
    """Colour of the expert, #rrggbb; default: unchanged."""

    def run(self) -> None:
        """Run the command."""
        from types import MappingProxyType

        from vdd_ros.common.errors import ConfigurationError
        from vdd_ros.policy.labels import Label, Labels, save_labels
        from vdd_ros.policy.policy import DistilledPolicy

        policy = DistilledPolicy.load(self.student)
        labels = policy.labels
        if self.expert is not None:
            if not 0 <= self.expert < policy.expert_count:
                raise ConfigurationError(
                    expected=f'an expert from 0 to {policy.expert_count - 1}',
                    found=str(self.expert),
                    remedy='see `vdd explain` for the experts of this student',
                )
            experts = dict(labels.experts)
            if self.name:
                colour = self.colour or labels.colour(self.expert)
                experts[self.expert] = Label(name=self.name, colour=colour)
            else:
                experts.pop(self.expert, None)
            labels = Labels(MappingProxyType(dict(sorted(experts.items()))))
            save_labels(self.student, policy.artifact.hash, labels)
        for expert in labels.experts:
            out.print(f'[{labels.colour(expert)}]■[/] {escape(labels.text(expert))}', highlight=False)
        if not labels.experts:
            echo('no expert has a name')
