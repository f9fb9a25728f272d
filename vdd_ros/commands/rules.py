"""Read rules on experts, and check them against a recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from vdd_ros.commands.reading import ReadsBags
from vdd_ros.commands.say import out, say
from vdd_ros.common.console import Bars

if TYPE_CHECKING:
    from vdd_ros.control.rules import Rules
    from vdd_ros.policy.policy import DistilledPolicy


@dataclass(frozen=True)
class Check(ReadsBags):
    """Apply rules at every policy tick of recorded demonstrations, and report what they change.

    Nothing moves. To see the effect in simulation, validate with the rules: `vdd validate --deployment FILE`.
    """

    rules: Annotated[Path, tyro.conf.Positional]
    """The file of rules (docs/deployment.md)."""
    student: Annotated[Path, tyro.conf.Positional]
    """The artifact of the student whose experts they name."""
    bags: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Recordings of demonstrations."""
    parameters: tuple[str, ...] = ()
    """Values of parameters of the rules, NAME=VALUE as in YAML."""
    check: bool = False
    """Exit with 1 if the rules would stop the arm anywhere, or if one of them never applies."""

    def run(self) -> int:
        """Run the command."""
        from vdd_ros.common.errors import BagError
        from vdd_ros.policy.policy import DistilledPolicy
        from vdd_ros.robot.kinematics import Kinematics
        from vdd_ros.validation.recorded import answered_episodes
        from vdd_ros.validation.rules_check import check_rules

        policy = DistilledPolicy.load(self.student)
        rules = _loaded(self.rules, policy, self.parameters)
        kinematics = Kinematics.from_contract(policy.contract)
        if not self.bags:
            raise BagError(expected='at least one bag', found='none', remedy='name recordings of demonstrations')
        with Bars(out) as bars:
            episodes = answered_episodes(policy, self.bags, kinematics, bars)
        if not episodes:
            raise BagError(expected='demonstrations that succeeded', found='none', remedy='name other recordings')
        found = check_rules(rules, policy.contract, kinematics, episodes)
        table = Table('rule', 'applies', 'in demonstrations', 'effect', box=SIMPLE)
        for use, effect in zip(found.rules, rules.effects):
            share = f'{use.ticks / found.ticks:.1%} of ticks' if use.ticks else 'never'
            table.add_row(escape(use.name), share, f'{use.episodes} of {found.episodes}', escape(effect.text))
        out.print(table)
        table = Table('expert', 'without rules', 'with rules', box=SIMPLE)
        for expert, (before, after) in enumerate(zip(found.usage_before, found.usage_after)):
            if abs(before - after) >= 5e-4:
                table.add_row(escape(policy.labels.text(expert)), f'{before:.1%}', f'{after:.1%}')
        if table.row_count:
            out.print(table)
        say(
            f'another expert is the likeliest at {found.likeliest_changed / found.ticks:.1%} of {found.ticks} ticks; '
            f'{found.moved:.1%} of the probability moves; plans are slowed down at {found.slowed / found.ticks:.1%}'
        )
        for reason, count in found.stops.items():
            say(f'the arm would stop at {count} ticks: {reason}')
        if found.stops:
            say(f'the arm would stop in {found.stopped_episodes} of {found.episodes} demonstrations')
        idle = [use.name for use in found.rules if not use.ticks]
        return 1 if self.check and (found.stops or idle) else 0


@dataclass(frozen=True)
class Show:
    """Read a file of rules for a student, and list what each of them does; errors name the line."""

    rules: Annotated[Path, tyro.conf.Positional]
    """The file of rules (docs/deployment.md)."""
    student: Annotated[Path, tyro.conf.Positional]
    """The artifact of the student whose experts they name."""

    def run(self) -> None:
        """Run the command."""
        from vdd_ros.policy.policy import DistilledPolicy

        rules = _loaded(self.rules, DistilledPolicy.load(self.student), ())
        table = Table('rule', 'place', 'applies', 'effect', box=SIMPLE)
        for each in rules.effects:
            table.add_row(
                escape(each.name),
                escape(each.place),
                'always' if each.always else 'if its condition holds',
                escape(each.text),
            )
        out.print(table)
        for name, value in rules.defaults.items():
            say(f'parameter {name}: {value!r} unless another node sets it')


@dataclass(frozen=True)
class RulesCommand:
    """Read rules on experts, and check them against a recording."""

    action: (
        Annotated[Show, tyro.conf.subcommand('show', prefix_name=False)]
        | Annotated[Check, tyro.conf.subcommand('check', prefix_name=False)]
    )
    """The subcommand."""

    def run(self) -> int | None:
        """Run the command."""
        if isinstance(self.action, Check):
            self.action.prepare()
        return self.action.run()


def _loaded(file: Path, policy: DistilledPolicy, parameters: Sequence[str]) -> Rules:
    import yaml

    from vdd_ros.common.errors import ConfigurationError
    from vdd_ros.control.rules import load_rules
    from vdd_ros.policy.routing import Routing

    values = {}
    for each in parameters:
        name, equals, value = each.partition('=')
        if not equals:
            raise ConfigurationError(expected='NAME=VALUE', found=each, remedy='write task=cans')
        try:
            values[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigurationError(
                expected=f'a value of YAML for {name}', found=value, remedy='put text between quotes'
            ) from error
    known = {'experts': policy.expert_count, 'labels': policy.labels, 'parameters': values}
    return load_rules(file, policy.contract, Routing(), **known)
