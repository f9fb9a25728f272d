"""Look at the experts of a student, and name them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from vdd_ros.commands.reading import ReadsBags
from vdd_ros.commands.say import beside, out, say
from vdd_ros.common.console import Bars


@dataclass(frozen=True)
class Explain(ReadsBags):
    """Write one page on the experts of a student: when each acts, what it does, and how certain it is.

    The page is a single file. It shows names and colours as they are in RViz and in the diagnostics. `vdd label` names
    experts.
    """

    student: Annotated[Path, tyro.conf.Positional]
    """The artifact of the student."""
    bags: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Recordings of demonstrations, for example those that it was learned from."""
    html: Path | None = None
    """The page; by default STUDENT.experts.html."""

    def run(self) -> None:
        """Do it."""
        from vdd_ros.common.errors import BagError
        from vdd_ros.policy.policy import DistilledPolicy
        from vdd_ros.robot.kinematics import Kinematics
        from vdd_ros.validation.explain import write_explanation
        from vdd_ros.validation.recorded import answered_episodes

        policy = DistilledPolicy.load(self.student)
        kinematics = Kinematics.from_contract(policy.contract)
        with Bars(out) as bars:
            episodes = answered_episodes(policy, self.bags, kinematics, bars)
        if not episodes:
            raise BagError(
                expected='demonstrations that did not fail', found='none', remedy='name recordings of demonstrations'
            )
        target = self.html or beside(self.student, 'experts.html')
        found = write_explanation(policy, episodes, kinematics, target)
        table = Table('expert', 'share of demonstrations', 'probability', 'acts in', box=SIMPLE)
        for each in sorted(found, key=lambda each: -each.share):
            name = escape(policy.labels.text(each.number))
            colour = policy.labels.colour(each.number)
            acts = 'unused' if each.is_unused else each.acts
            table.add_row(f'[{colour}]■[/] {name}', f'{each.share:.1%}', f'{each.probability:.1%}', acts)
        out.print(table)
        say(f'wrote {target}')


@dataclass(frozen=True)
class LabelCommand:
    """Name an expert of a student, or remove its name.

    The name appears in reports, markers, diagnostics and rules. It is stored in labels.yaml in the folder of the
    artifact, bound to its hash. The hash, and so the validation, stays valid.
    """

    student: Annotated[Path, tyro.conf.Positional]
    """The artifact of the student."""
    expert: Annotated[int | None, tyro.conf.Positional] = None
    """The number of the expert; left out, names are listed."""
    name: Annotated[str, tyro.conf.Positional] = ''
    """Its name; left out, the name is removed."""
    colour: str = ''
    """Its colour, #rrggbb; left out, it keeps its own."""

    def run(self) -> None:
        """Do it."""
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
            say('no expert has a name')
