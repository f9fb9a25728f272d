"""How a training went, for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from vdd_ros.common.errors import OutputError


def write_events(folder: Path, history: Mapping[str, Sequence[float]], metrics: Mapping[str, float]) -> None:
    """Write curves and final figures as TensorBoard events into a folder, made if absent.

    They are written in one go when training has ended, from what the artifact records: one that was cancelled or
    failed leaves its checkpoint and nothing else.

    Parameters
    ----------
    folder
        One run of TensorBoard.
    history
        Curves under ``training/``; `iteration` holds their places.
    metrics
        Figures under ``final/``, at the last iteration.

    Raises
    ------
    OutputError
        The folder cannot be written.

    """
    # Here and not above: importing it takes as long as all else that the command line needs to say what it can do.
    from torch.utils.tensorboard import SummaryWriter

    places = [int(iteration) for iteration in history.get('iteration', ())]
    try:
        with SummaryWriter(str(folder)) as writer:
            for name, values in history.items():
                if name != 'iteration':
                    for place, value in zip(places, values):
                        writer.add_scalar(f'training/{name}', value, place)
            for name, value in metrics.items():
                writer.add_scalar(f'final/{name}', value, places[-1] if places else 0)
    except OSError as error:
        raise OutputError(
            expected=f'a folder to write events for TensorBoard to at {folder}',
            found=str(error.strerror or error),
            remedy='make room; the artifact beside it is whole',
        ) from error
