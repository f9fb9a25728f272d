"""Training on several devices: torchrun launches the same command for each device, and ends all if one fails."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vdd_ros.common.errors import ConfigurationError, TrainingError

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

_PORT = 29500
_FOLLOWED = ('LostRankError', 'KeyboardInterrupt')
"""Errors of ranks that ended because another rank failed."""


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """Common options of training commands: the number of devices."""

    devices: int = 1
    """Number of devices of this computer for training: GPUs, or processes if `device` is cpu. Each device gets a part
    of every batch."""
    nodes: int = 1
    """Number of computers, each with as many devices. Run the same command on every computer, with the environment
    variables MASTER_ADDR (the first computer) and, if port 29500 is not free there, MASTER_PORT."""

    def launches(self) -> bool:
        """Return whether this process must launch worker processes.

        Raises
        ------
        ConfigurationError
            A number is not positive, or the numbers differ from those of the torchrun that launched this process.

        """
        if self.devices < 1 or self.nodes < 1:
            raise ConfigurationError(
                expected='at least one device and one node',
                found=f'{self.devices} devices and {self.nodes} nodes',
                remedy='ask for more',
            )
        if not in_worker():
            return self.devices * self.nodes > 1
        count = int(os.environ['WORLD_SIZE'])
        if self.devices * self.nodes not in (1, count):
            raise ConfigurationError(
                expected=f'the {count} processes of torchrun',
                found=f'--devices {self.devices} --nodes {self.nodes}',
                remedy='leave both out under torchrun, or give equal numbers',
            )
        return False


def in_worker() -> bool:
    """Return whether torchrun launched this process."""
    return 'TORCHELASTIC_RUN_ID' in os.environ


def leads() -> bool:
    """Return whether this process reports to the terminal: the first of torchrun's processes, or the only process."""
    return not in_worker() or os.environ.get('RANK', '0') == '0'


def launch(arguments: list[str], devices: int, nodes: int) -> None:
    """Run `vdd` in `devices` processes on this computer, which is one of `nodes`, and wait for their end.

    If a process fails, torchrun ends all processes.

    Raises
    ------
    TrainingError
        A process failed; the message contains its error.
    ConfigurationError
        There are several nodes, and the first is not given (MASTER_ADDR).
    KeyboardInterrupt
        This process was interrupted. The worker processes were also interrupted, and had time to save.

    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # The one error that is reported includes the message of torchrun.
    logger = logging.getLogger('torch.distributed.elastic')
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    # Each process would take all cores.
    os.environ.setdefault('OMP_NUM_THREADS', str(max(1, len(os.sched_getaffinity(0)) // devices)))
    with tempfile.TemporaryDirectory(prefix='vdd_') as logs:
        config = LaunchConfig(
            min_nodes=nodes,
            max_nodes=nodes,
            nproc_per_node=devices,
            run_id=os.environ.get('SLURM_JOB_ID', 'vdd'),
            rdzv_backend='c10d',
            rdzv_endpoint=_endpoint(nodes),
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )
        try:
            elastic_launch(config, sys.executable)('-m', 'vdd_ros.commands.cli', *arguments)
        except ChildFailedError as error:
            raise _explained(error) from error
        except SignalException as error:
            raise KeyboardInterrupt from error


def _endpoint(nodes: int) -> str:
    """Return where the nodes meet."""
    if nodes == 1:
        return 'localhost:0'
    if not (address := os.environ.get('MASTER_ADDR')):
        raise ConfigurationError(
            expected='the environment variable MASTER_ADDR: the first of the nodes',
            found='none',
            remedy='export it on every node, before the same command',
        )
    return f'{address}:{os.environ.get("MASTER_PORT", _PORT)}'


def _explained(error: ChildFailedError) -> TrainingError:
    """Return one error of the rank that failed first, not of those that missed it."""
    rank, failure = min(error.failures.items(), key=lambda item: (_followed(item[1]), item[1].timestamp, item[0]))
    return TrainingError(
        expected='every rank to learn to the end',
        found=f'rank {rank} of {os.environ.get("HOSTNAME", "this computer")} failed: {_message(failure)}',
        remedy='all ranks were ended; the same command with --resume continues from the last checkpoint',
    )


def _message(failure: ProcessFailure) -> str:
    text = failure.message if isinstance(failure.message, str) else failure.message.get('message', '')
    return ' '.join(text.split())


def _followed(failure: ProcessFailure) -> bool:
    return _message(failure).startswith(_FOLLOWED)


def record(error: BaseException) -> None:
    """Write an error to the file in which torchrun expects it."""
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler

    get_error_handler().record_exception(error)
