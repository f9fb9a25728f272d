"""Grant and lower the stage of an arm, and list the arms of a fleet."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from vdd_ros.commands.echo import echo, out

if TYPE_CHECKING:
    from vdd_ros.validation.stages import Standing

Stage = Literal['shadow', 'supervised', 'limited', 'full']


@dataclass(frozen=True)
class Promote:
    """Grant a stage to a student on an arm: shadow, supervised, limited, full, one after the other.

    Every stage except shadow needs a passing validation under the same deployment parameters, and evidence from the
    previous stage. Shadow begins the log. See docs/stages.md.
    """

    log: Annotated[Path, tyro.conf.Positional]
    """The log of the arm, as in the parameter `stage_log` of its policy node."""
    stage: Annotated[Stage, tyro.conf.Positional]
    """The stage to grant."""
    student: Path
    """The artifact of the student."""
    why: str
    """The reason, which is stored in the log."""
    who: str = ''
    """The name of the person, which is stored in the log. Default: the name of the account."""
    deployment: Path | None = None
    """Parameter file of the policy node; default: config/policy.yaml."""
    settings: Path | None = None
    """Limits and requirements of the stages; default: config/stages.yaml."""
    report: Path | None = None
    """Report of the validation; default: STUDENT.report."""
    gate: Path | None = None
    """Thresholds of the validation; default: config/gate.yaml."""

    def run(self) -> None:
        """Run the command."""
        from vdd_ros.control.deployment import load_deployment
        from vdd_ros.policy.artifact import load_artifact
        from vdd_ros.validation.stages import load_stage_settings, promote
        from vdd_ros.validation.thresholds import load_gate

        entry = promote(
            self.log,
            self.stage,
            self.who or getpass.getuser(),
            self.why,
            artifact=load_artifact(self.student, kind='student'),
            deployment=load_deployment(self.deployment),
            settings=load_stage_settings(self.settings),
            report=self.report,
            gate=load_gate(self.gate),
        )
        echo(f'stage {self.stage} by {entry.who}; entry {entry.number} of {self.log}, hash {entry.hash[:12]}')
        echo('a running node takes it at its next configuration')


@dataclass(frozen=True)
class Demote:
    """Lower the stage of an arm, by default by one. A running node stops the arm within two seconds."""

    log: Annotated[Path, tyro.conf.Positional]
    """The log of the arm."""
    why: str
    """The reason, which is stored in the log."""
    who: str = ''
    """The name of the person, which is stored in the log. Default: the name of the account."""
    to: Stage | None = None
    """The stage; default: the next lower stage."""

    def run(self) -> None:
        """Run the command."""
        from vdd_ros.validation.stages import demote

        entry = demote(self.log, self.who or getpass.getuser(), self.why, self.to)
        echo(f'stage {entry.values["stage"]}; entry {entry.number} of {self.log}, hash {entry.hash[:12]}')


@dataclass(frozen=True)
class Stages:
    """List the arms of a fleet: stage, evidence, and unmet requirements of the next stage. Checks every log."""

    fleet: Annotated[Path, tyro.conf.Positional]
    """YAML file with the logs of the arms, `arms: {left: {log: left.jsonl}}`, or one log (.jsonl)."""
    history: bool = False
    """List the entries of the logs, too."""

    def run(self) -> int:
        """Run the command; return 1 if a log is absent or was edited."""
        from vdd_ros.common.errors import GateError
        from vdd_ros.validation.stages import load_fleet, standing_of

        single = self.fleet.suffix == '.jsonl'
        arms = {self.fleet.stem: (self.fleet, '')} if single else load_fleet(self.fleet)
        table = Table('arm', 'stage', 'since', 'hours', 'episodes', 'missing for the next stage', 'head', box=SIMPLE)
        faults, sound = [], []
        for name, (log, anchor) in arms.items():
            try:
                standing = standing_of(log, anchor)
            except GateError as error:
                faults.append(f'{name}: {error}')
                table.add_row(escape(name), '[bold red]no valid log[/]', '', '', '', '', '')
                continue
            sound.append((name, log))
            table.add_row(*_row(name, standing))
        out.print(table)
        for name, log in sound if self.history else ():
            _print_history(name, log)
        for fault in faults:
            echo(fault)
        return 1 if faults else 0


def _row(name: str, standing: Standing) -> list[str]:
    evidence = standing.evidence
    missing = 'nothing' if standing.next else '-'
    return [
        escape(name),
        standing.stage,
        f'{standing.since} by {escape(standing.who)}',
        f'{evidence.seconds / 3600:.2f}',
        str(evidence.episodes),
        escape('; '.join(standing.shortcomings()) or missing),
        standing.head[:12],
    ]


def _print_history(name: str, log: Path) -> None:
    from vdd_ros.validation.stage_log import read_log

    table = Table('time', 'what', 'who', 'why', 'hash', box=SIMPLE, title=escape(name))
    for entry in read_log(log):
        values = entry.values
        what = values['stage'] if entry.kind == 'stage' else f'{values["seconds"]:.0f} s in {values["stage"]}'
        table.add_row(entry.time, what, escape(entry.who), escape(entry.why), entry.hash[:12])
    out.print(table)
