"""The command line: `vdd record`, `vdd train-teacher`, `vdd distill`, `vdd validate`, and all of them as `vdd demo`."""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape

from vdd_ros.commands.contract import ContractCommand
from vdd_ros.commands.dataset import DatasetCommand
from vdd_ros.commands.demo import Demo
from vdd_ros.commands.doctor import Doctor
from vdd_ros.commands.edit import EditCommand
from vdd_ros.commands.explain import Explain, LabelCommand
from vdd_ros.commands.inspect import Inspect
from vdd_ros.commands.learn import Distill, TrainTeacher
from vdd_ros.commands.reading import ReadsBags
from vdd_ros.commands.record import Record, RecordLive
from vdd_ros.commands.recover import Recover
from vdd_ros.commands.replay import Replay
from vdd_ros.commands.rules import RulesCommand
from vdd_ros.commands.settings import SettingsCommand
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
    | Annotated[DatasetCommand, tyro.conf.subcommand('dataset')]
    | Annotated[Inspect, tyro.conf.subcommand('inspect')]
    | Annotated[EditCommand, tyro.conf.subcommand('edit')]
    | Annotated[Recover, tyro.conf.subcommand('recover')]
    | Annotated[TrainTeacher, tyro.conf.subcommand('train-teacher')]
    | Annotated[Distill, tyro.conf.subcommand('distill')]
    | Annotated[Validate, tyro.conf.subcommand('validate')]
    | Annotated[Explain, tyro.conf.subcommand('explain')]
    | Annotated[LabelCommand, tyro.conf.subcommand('label')]
    | Annotated[RulesCommand, tyro.conf.subcommand('rules')]
    | Annotated[View, tyro.conf.subcommand('view')]
    | Annotated[Demo, tyro.conf.subcommand('demo')]
    | Annotated[SettingsCommand, tyro.conf.subcommand('settings')]
    | Annotated[Doctor, tyro.conf.subcommand('doctor')]
)


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    Returns 0 or the exit code of the command, 2 after an error (one line), 130 after Ctrl-C.
    """
    command = tyro.cli(
        tyro.conf.OmitArgPrefixes[_Command],
        args=arguments,
        prog='vdd',
        description='From rosbag demonstrations to a mixture of experts that moves an arm.',
    )
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if isinstance(command, ReadsBags):
            command.prepare()
        code = command.run()
    except VddError as error:
        _error.print(f'[bold red]error:[/] {escape(str(error))}', highlight=False)
        return EXIT_ERROR
    except KeyboardInterrupt:
        _error.print('interrupted', highlight=False)
        return EXIT_INTERRUPTED
    return code or 0


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == '__main__':
    sys.exit(main())
