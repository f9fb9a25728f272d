"""The command line: `vdd record`, `vdd train-teacher`, `vdd distill`, `vdd validate`, and all of them as `vdd demo`."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape

from vdd_ros.commands.compare import Compare
from vdd_ros.commands.contract import ContractCommand
from vdd_ros.commands.convert import Convert
from vdd_ros.commands.dashboard import DashboardCommand
from vdd_ros.commands.dataset import DatasetCommand
from vdd_ros.commands.demo import Demo
from vdd_ros.commands.doctor import Doctor
from vdd_ros.commands.echo import out
from vdd_ros.commands.edit import EditCommand
from vdd_ros.commands.explain import Explain, LabelCommand
from vdd_ros.commands.inspect import Inspect
from vdd_ros.commands.launch import DeviceOptions, in_worker, launch, leads, record
from vdd_ros.commands.learn import Distill, TrainTeacher
from vdd_ros.commands.reading import ReadsBags
from vdd_ros.commands.record import Record, RecordLive
from vdd_ros.commands.recover import Recover
from vdd_ros.commands.replay import Replay
from vdd_ros.commands.rules import RulesCommand
from vdd_ros.commands.runs import Runs
from vdd_ros.commands.settings import SettingsCommand
from vdd_ros.commands.stages import Demote, Promote, Stages
from vdd_ros.commands.sweep import Sweep
from vdd_ros.commands.validate import Validate
from vdd_ros.commands.view import View
from vdd_ros.common.errors import VddError

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130

_error = Console(stderr=True, soft_wrap=True)

_Command = (
    Annotated[Record, tyro.conf.subcommand('record')]
    | Annotated[RecordLive, tyro.conf.subcommand('record-live')]
    | Annotated[ContractCommand, tyro.conf.subcommand('contract')]
    | Annotated[Replay, tyro.conf.subcommand('replay')]
    | Annotated[Convert, tyro.conf.subcommand('convert')]
    | Annotated[DatasetCommand, tyro.conf.subcommand('dataset')]
    | Annotated[Inspect, tyro.conf.subcommand('inspect')]
    | Annotated[EditCommand, tyro.conf.subcommand('edit')]
    | Annotated[Recover, tyro.conf.subcommand('recover')]
    | Annotated[TrainTeacher, tyro.conf.subcommand('train-teacher')]
    | Annotated[Distill, tyro.conf.subcommand('distill')]
    | Annotated[Runs, tyro.conf.subcommand('runs')]
    | Annotated[Sweep, tyro.conf.subcommand('sweep')]
    | Annotated[Validate, tyro.conf.subcommand('validate')]
    | Annotated[Compare, tyro.conf.subcommand('compare')]
    | Annotated[Explain, tyro.conf.subcommand('explain')]
    | Annotated[LabelCommand, tyro.conf.subcommand('label')]
    | Annotated[RulesCommand, tyro.conf.subcommand('rules')]
    | Annotated[Promote, tyro.conf.subcommand('promote')]
    | Annotated[Demote, tyro.conf.subcommand('demote')]
    | Annotated[Stages, tyro.conf.subcommand('stages')]
    | Annotated[View, tyro.conf.subcommand('view')]
    | Annotated[DashboardCommand, tyro.conf.subcommand('dashboard')]
    | Annotated[Demo, tyro.conf.subcommand('demo')]
    | Annotated[SettingsCommand, tyro.conf.subcommand('settings')]
    | Annotated[Doctor, tyro.conf.subcommand('doctor')]
)


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    Returns 0 or the exit code of the command, 2 after an error (one line), 130 after Ctrl-C.
    """
    try:
        command = tyro.cli(
            tyro.conf.OmitArgPrefixes[_Command],
            args=arguments,
            prog='vdd',
            description='From rosbag demonstrations to a mixture-of-experts policy for an arm.',
        )
    except BrokenPipeError:  # the reader of the help has closed the pipe: vdd --help | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    signal.signal(signal.SIGTERM, _interrupt)
    out.quiet = not leads()
    try:
        try:
            if isinstance(command, DeviceOptions) and command.launches():
                launch(sys.argv[1:] if arguments is None else arguments, command.devices, command.nodes)
                return 0
            if isinstance(command, ReadsBags):
                command.prepare()
            return command.run() or 0
        finally:
            # torchrun ends the other processes when one fails: from here on each reports its own error and ends.
            if in_worker():
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                signal.signal(signal.SIGINT, signal.SIG_IGN)
    except VddError as error:
        return _failed(error)
    except KeyboardInterrupt as error:
        if in_worker():
            record(error)
        else:
            _error.print('interrupted', highlight=False)
        return EXIT_INTERRUPTED
    except Exception as error:
        if in_worker():
            record(error)
        raise


def _failed(error: VddError) -> int:
    """Report an error; one of several processes leaves that to the one that began them."""
    if in_worker():
        record(error)
    else:
        _error.print(f'[bold red]error:[/] {escape(str(error))}', highlight=False)
    return EXIT_ERROR


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == '__main__':
    sys.exit(main())
