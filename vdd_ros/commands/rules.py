"""Read rules on experts, and check them against a recording and in simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from vdd_ros.commands.echo import echo, out
from vdd_ros.commands.reading import ReadsBags
from vdd_ros.common.console import Bars

if TYPE_CHECKING:
    from vdd_ros.control.rules import Rules
    from vdd_ros.policy.policy import DistilledPolicy
    from vdd_ros.sim.tasks import Task


@dataclass(frozen=True)
class Check(ReadsBags):
    """Apply rules at every policy tick of recorded demonstrations and in simulation, and report their effects."""

    rules: Annotated[Path, tyro.conf.Positional]
    """The file of rules (docs/deployment.md)."""
    student: Annotated[Path, tyro.conf.Positional]
    """The artifact of the student whose experts they name."""
    bags: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Recordings of demonstrations."""
    simulate: int = 0
    """Number of episodes with the rules, and without, in which the student is rolled out as deployed; 0 for none."""
    task: str = ''
    """With --simulate: the task, as for `vdd validate`; default: the task of the contract."""
    deployment: Path | None = None
    """Parameter file of the policy node for these rollouts; default: config/policy.yaml."""
    parameters: tuple[str, ...] = ()
    """Values of rule parameters, as NAME=VALUE in YAML."""
    check: bool = False
    """Exit with 1 if the rules would stop the arm at any tick, or if a rule never applies."""

    def run(self) -> int:
        """Run the command."""
        from vdd_ros.common.errors import ConfigurationError
        from vdd_ros.policy.policy import DistilledPolicy
        from vdd_ros.sim.tasks import resolve_task

        policy = DistilledPolicy.load(self.student)
        values = _values(self.parameters)
        rules = _loaded(self.rules, policy, values)
        task = resolve_task(self.task, policy.contract) if self.simulate else None
        if not (self.bags or task):
            raise ConfigurationError(
                expected='recordings, or --simulate EPISODES', found='neither', remedy='give one of them or both'
            )
        code = self._replay(policy, rules) if self.bags else 0
        if task is not None:
            self._simulate(policy, task, values)
        return code

    def _replay(self, policy: DistilledPolicy, rules: Rules) -> int:
        """Apply the rules to the recordings; return the exit code."""
        from vdd_ros.common.errors import BagError
        from vdd_ros.robot.kinematics import Kinematics
        from vdd_ros.validation.recorded import predicted_episodes
        from vdd_ros.validation.rules_check import check_rules

        kinematics = Kinematics.from_contract(policy.contract)
        with Bars(out) as bars:
            episodes = predicted_episodes(policy, self.bags, kinematics, bars)
        if not episodes:
            raise BagError(expected='successful demonstrations', found='none', remedy='give other recordings')
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
        echo(
            f'the most probable expert changes at {found.likeliest_changed / found.ticks:.1%} of {found.ticks} ticks; '
            f'{found.moved:.1%} of the probability moves; plans are slowed down at {found.slowed / found.ticks:.1%}'
        )
        for reason, count in found.stops.items():
            echo(f'the arm would stop at {count} ticks: {reason}')
        if found.stops:
            echo(f'the arm would stop in {found.stopped_episodes} of {found.episodes} demonstrations')
        idle = [use.name for use in found.rules if not use.ticks]
        return 1 if self.check and (found.stops or idle) else 0

    def _simulate(self, policy: DistilledPolicy, task: Task, values: Mapping[str, Any]) -> None:
        """Roll out the student with and without the rules, and print both."""
        from vdd_ros.control.deployment import load_deployment
        from vdd_ros.validation.metrics import summarise
        from vdd_ros.validation.rules_check import roll_out_deployed

        free = load_deployment(self.deployment).model_copy(update={'rules': '', 'rule_parameters': {}})
        ruled = free.model_copy(update={'rules': str(self.rules.absolute()), 'rule_parameters': dict(values)})
        with Bars(out) as bars:
            found = roll_out_deployed(
                policy.artifact,
                task,
                {'without rules': free, 'with rules': ruled},
                self.simulate,
                lambda done, total: bars('student rollouts', done, total, {}),
            )
        summaries = {name: summarise(done, policy.expert_count) for name, done in found.items()}
        table = Table('as deployed, in simulation', *found, box=SIMPLE)
        table.add_row('success', *(f'{each.success:.3f}' for each in summaries.values()))
        counts = zip(task.mode_names, *(each.mode_counts for each in summaries.values()))
        for name, *both in counts if len(task.mode_names) > 1 else ():
            table.add_row(f'mode {escape(name)}', *map(str, both))
        for expert, shares in enumerate(zip(*(each.expert_usage for each in summaries.values()))):
            if max(shares) >= 5e-4:
                table.add_row(f'expert {escape(policy.labels.text(expert))}', *(f'{share:.1%}' for share in shares))
        out.print(table)
        for name, done in found.items():
            for cause in sorted({cause for cause in done.causes if cause}):
                echo(f'{name}: {done.causes.count(cause)} of {len(done)} end with {cause}')


@dataclass(frozen=True)
class Show:
    """Read a rule file for a student, and list the effects of each rule; errors name the line."""

    rules: Annotated[Path, tyro.conf.Positional]
    """The file of rules (docs/deployment.md)."""
    student: Annotated[Path, tyro.conf.Positional]
    """The artifact of the student whose experts they name."""

    def run(self) -> None:
        """Run the command."""
        from vdd_ros.policy.policy import DistilledPolicy

        rules = _loaded(self.rules, DistilledPolicy.load(self.student), {})
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
            echo(f'parameter {name}: {value!r} (default; nodes can set it)')


@dataclass(frozen=True)
class RulesCommand:
    """Read rules on experts, and check them against a recording and in simulation."""

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


def _loaded(file: Path, policy: DistilledPolicy, values: Mapping[str, Any]) -> Rules:
    from vdd_ros.control.rules import load_rules
    from vdd_ros.policy.routing import Routing

    known = {'experts': policy.expert_count, 'labels': policy.labels, 'parameters': values}
    return load_rules(file, policy.contract, Routing(), **known)


def _values(parameters: Sequence[str]) -> dict[str, Any]:
    """Return the values of parameters that are given as NAME=VALUE."""
    import yaml

    from vdd_ros.common.errors import ConfigurationError

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
    return values
