"""Bags whose recorder was killed: made whole again, with an account of what is lost."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vdd_ros.data.bag_metadata import METADATA, partial_path, write_metadata_of
from vdd_ros.data.bag_writer import BagWriter, Definition
from vdd_ros.data.mcap_file import Damage, McapScan, RawMessage, scan
from vdd_ros.data.mcap_finish import finish
from vdd_ros.errors import BagError

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Recovery:
    """What became of a bag."""

    path: Path
    """The bag, whole now."""
    messages: int
    """How many it holds."""
    seconds: float
    """From the first to the last of them [s]."""
    damages: tuple[tuple[str, Damage], ...]
    """What could not be read, each with the name of its file; empty for a bag that was whole."""
    closed: bool
    """Whether it was closed as it should be: else nobody knows what never reached the disk."""

    @property
    def lost_bytes(self) -> int:
        """How much could not be read [byte]."""
        return sum(damage.size for _, damage in self.damages)

    @property
    def lost_messages(self) -> int:
        """How many messages are known to be lost, where an index still tells."""
        return sum(damage.messages for _, damage in self.damages)

    def __str__(self) -> str:
        """Say it in a line."""
        lost = 'nothing is lost' if self.closed else 'it was not closed; nothing is lost of what was written'
        if self.damages:
            known = f' with {self.lost_messages} messages' if self.lost_messages else ''
            lost = f'{self.lost_bytes} bytes{known} could not be read'
        return f'{self.path}: {self.messages} messages over {self.seconds:.1f} s; {lost}'


def settle(path: str | Path) -> Recovery | None:
    """Finish the bag that a killed recorder left for a path, if there is one; to be called before reading.

    Raises
    ------
    BagError
        The recorder still lives, or it left nothing that can be read.

    """
    path = Path(path)
    partial = partial_path(path)
    if path.exists() or not partial.is_dir():
        return None
    if is_growing(partial):
        raise BagError(
            expected=f'a whole bag at {path}', found='one that is being recorded', remedy='stop the recorder first'
        )
    return _mend(partial, path, None)


def settle_all(folder: Path, reserved: Path) -> list[Recovery | BagError]:
    """Finish every bag that killed recorders left in a folder; what cannot be finished is left alone, and told of.

    The bag of the path ``reserved``, which a new recorder is about to use, becomes ``NAME_recovered``.
    """
    found: list[Recovery | BagError] = []
    for partial in sorted(folder.glob('.*.partial')):
        path = folder / partial.name.removeprefix('.').removesuffix('.partial')
        if not any(partial.glob('*.mcap')) or is_growing(partial):
            continue
        if path == reserved or path.exists():
            path = _free(path)
        try:
            found.append(_mend(partial, path, None))
        except BagError as error:
            found.append(error)
    return found


def is_growing(folder: Path) -> bool:
    """Tell whether a recorder is writing into a folder at this moment."""
    for file in folder.glob('*.mcap'):
        with file.open('rb') as opened:
            try:
                fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


def recover(path: str | Path, output: str | Path | None = None, progress: Progress | None = None) -> Recovery:
    """Make a bag whole that was not closed, or copy what is sound of one that is damaged.

    Parameters
    ----------
    path
        A bag's folder, or where a killed recorder should have left one, or an MCAP file.
    output
        Where to write a sound copy. Without it the bag is mended in place: a tail that breaks off is cut, and index and
        `metadata.yaml` are written anew.
    progress
        Told the share that is done, in [0, 1].

    Raises
    ------
    BagError
        There is nothing to recover, a recorder still writes to it, or it is damaged in a way that takes a copy.
    OutputError
        The output is occupied or cannot be written.

    """
    path = Path(path)
    partial = partial_path(path)
    folder = partial if partial.is_dir() and not path.exists() else path
    if is_growing(folder):
        raise BagError(
            expected=f'a bag at {path} that nobody writes to', found='a recorder', remedy='stop the recorder first'
        )
    if output is not None:
        return _copy(folder, Path(output), progress)
    return _mend(folder, path, progress)


def _mend(folder: Path, path: Path, progress: Progress | None) -> Recovery:
    """Mend a bag in place, then move it to its path."""
    files = _files(folder)
    scans = [scan(file, progress=_share(progress, files, number)) for number, file in enumerate(files)]
    torn = [found for found in scans if not found.complete]
    for found in scans:
        inside = [damage for damage in found.damages if damage.offset != found.end]
        if inside or not (found.complete or found.can_be_finished):
            why = f'{inside[0].reason} at byte {inside[0].offset}' if inside else 'messages that no index leads to'
            raise BagError(
                expected=f'a bag at {path} that only lacks its end',
                found=f'{why} of {found.path.name}',
                remedy='vdd recover BAG --output COPY copies all that is sound',
            )
    if not any(found.count for found in scans):
        raise BagError(expected=f'messages in {path}', found='none that is sound', remedy='remove it')
    for found in torn:
        finish(found)
    if folder.is_dir() and (torn or not (folder / METADATA).exists()):
        write_metadata_of(folder, scans)
    if folder != path:
        folder.rename(path)
    return _account(path, scans)


def _copy(folder: Path, output: Path, progress: Progress | None) -> Recovery:
    files = _files(folder)
    scans = [scan(file) for file in files]
    topics: dict[str, str] = {}
    definitions: dict[str, Definition] = {}
    for found in scans:
        for channel in found.channels.values():
            schema = found.schemas[channel.schema_id]
            topics.setdefault(channel.topic, schema.name)
            type_hash = channel.metadata.get('topic_type_hash', '')
            definitions[schema.name] = Definition(schema.data.decode(), schema.encoding, type_hash)
    with BagWriter(output, topics, definitions) as writer:
        for number, found in enumerate(scans):
            names = {channel.id: channel.topic for channel in found.channels.values()}

            def write(message: RawMessage, names: dict[int, str] = names) -> None:
                writer.write(names[message.channel], message.stamp, message.data)

            scan(found.path, take=write, progress=_share(progress, files, number))
    if not writer.count:
        raise BagError(expected=f'messages in {folder}', found='none that is sound', remedy='record it again')
    return _account(output, scans)


def _files(folder: Path) -> list[Path]:
    """Return the MCAP files of a bag, in their order."""
    if folder.is_file() and folder.suffix == '.mcap':
        return [folder]
    files = sorted(folder.glob('*.mcap'), key=_natural) if folder.is_dir() else []
    if not files:
        others = sorted(item.name for item in folder.iterdir()) if folder.is_dir() else []
        raise BagError(
            expected=f'MCAP files of a bag at {folder}',
            found=', '.join(others) or 'nothing there',
            remedy='give the folder of the bag; sqlite3 bags recover by themselves when they are opened',
        )
    return files


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort bag_10 after bag_9."""
    return [(int(part), '') if part.isdigit() else (-1, part) for part in re.split(r'(\d+)', path.stem)]


def _account(path: Path, scans: Sequence[McapScan]) -> Recovery:
    spans = [found.span for found in scans if found.span]
    seconds = (max(last for _, last in spans) - min(first for first, _ in spans)) / 1e9 if spans else 0.0
    damages = tuple((found.path.name, damage) for found in scans for damage in found.damages)
    closed = all(found.complete for found in scans)
    return Recovery(path, sum(found.count for found in scans), seconds, damages, closed)


def _share(progress: Progress | None, files: Sequence[Path], number: int) -> Progress | None:
    if progress is None:
        return None
    return lambda share: progress((number + share) / len(files))


def _free(path: Path) -> Path:
    """Return a path near another that is free."""
    candidate, number = path.with_name(f'{path.name}_recovered'), 2
    while candidate.exists():
        candidate, number = path.with_name(f'{path.name}_recovered_{number}'), number + 1
    return candidate
