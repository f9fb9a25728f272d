"""Bags that were not closed or are damaged: a whole bag of all that is sound, and an account of what is not."""

from __future__ import annotations

import errno
import fcntl
import re
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vdd_ros.common.errors import BagError, OutputError
from vdd_ros.data.bag.bag_metadata import METADATA, partial_path, read_metadata, write_metadata_of
from vdd_ros.data.bag.mcap_copy import McapScan, copy, finish, scan
from vdd_ros.data.bag.mcap_reader import DamagedPart

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Recovery:
    """What became of a bag."""

    path: Path
    """The bag that is whole."""
    messages: int
    """How many it holds."""
    seconds: float
    """From the first to the last of them [s]."""
    damages: tuple[tuple[str, DamagedPart], ...]
    """What could not be read, each with the name of its file; empty for a bag that was whole."""
    closed: bool
    """Whether it was closed as it should be: else nobody knows what never reached the disk."""
    original: Path | None = None
    """The bag that was read, unchanged; None where the bag at `path` is that one."""

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
        if self.lost_bytes or self.lost_messages:
            known = f' with {self.lost_messages} messages' if self.lost_messages else ''
            lost = f'{self.lost_bytes} bytes{known} could not be read'
        kept = f'; {self.original} is unchanged' if self.original is not None else ''
        return f'{self.path}: {self.messages} messages over {self.seconds:.1f} s; {lost}{kept}'


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
    return _settled(partial, path, None)


def settle_all(folder: Path, reserved: Path) -> list[Recovery | BagError | OutputError]:
    """Finish every bag that killed recorders left in a folder; what cannot be finished is left alone, and reported.

    The bag of the path ``reserved``, which a new recorder is about to use, becomes ``NAME_recovered``.
    """
    found: list[Recovery | BagError | OutputError] = []
    for partial in sorted(folder.glob('.*.partial')):
        path = folder / partial.name.removeprefix('.').removesuffix('.partial')
        if not any(partial.glob('*.mcap')) or is_growing(partial):
            continue
        if path == reserved or path.exists():
            path = _free(path)
        try:
            found.append(_settled(partial, path, None))
        except (BagError, OutputError) as error:
            found.append(error)
    return found


def is_growing(path: Path) -> bool:
    """Tell whether a process of this machine is writing to a file, or to an MCAP file in a folder, at this moment."""
    files = [path] if path.is_file() else [*path.glob('*.mcap')]
    return any(map(_is_written, files))


def _is_written(path: Path) -> bool:
    with path.open('rb') as file:
        try:
            # The system grants a lease for reading only where nobody has the file open for writing.
            fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)  # in place of SIGIO, which would end this process
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return True
        try:
            # Where there are no leases, such as on network file systems: recorders of this package lock their file.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def recover(path: str | Path, output: str | Path | None = None, progress: Progress | None = None) -> Recovery:
    """Write a whole bag of all that is sound in one that was not closed, or is damaged.

    The bag that is read is not changed: the whole one is written beside it, as ``NAME_recovered``. A bag that is whole
    is left alone; where it lacks `metadata.yaml` alone, that is written. What a killed recorder of this package left
    in ``.NAME.partial`` becomes ``NAME``, with the bytes that were cut off its end, or the damaged original, in it.

    Parameters
    ----------
    path
        A bag's folder, or where a killed recorder should have left one, or an MCAP file.
    output
        Where to write; a folder, or a file whose name ends in ``.mcap`` if the bag is one.
    progress
        Told the share that is done, in [0, 1].

    Raises
    ------
    BagError
        There is nothing to recover, or someone still writes to it.
    OutputError
        The output is occupied or cannot be written.

    """
    path = Path(path)
    partial = partial_path(path)
    folder = partial if partial.is_dir() and not path.exists() else path
    files = _files(folder)
    if is_growing(folder):
        raise _growing(path)
    if folder == partial and output is None:
        return _settled(partial, path, progress)
    before = [_state(file) for file in files]
    scans = [scan(file, _share(progress, files, number, 0.0)) for number, file in enumerate(files)]
    if before != [_state(file) for file in files]:
        raise _growing(path)
    _refuse_nothing(path, scans)
    if output is None and all(found.complete for found in scans):
        if folder.is_dir() and not (folder / METADATA).exists():
            _describe(folder, scans)
        return _report(path, scans, None)
    output = _free(path) if output is None else Path(output)
    if output.exists() or partial_path(output).exists():
        raise OutputError(
            expected=f'a free place at {output}', found='something there', remedy='choose another path or remove it'
        )
    staging = _staging(output)
    try:
        _write(folder, files, scans, staging, output, progress)
        if before != [_state(file) for file in files]:
            raise _growing(path)
        source = staging / output.name if output.suffix == '.mcap' and folder.is_file() else staging
        source.rename(output)
    except OSError as error:
        raise OutputError(
            expected=f'room for the recovered bag at {output}',
            found=error.strerror or str(error),
            remedy='make room, or write elsewhere with --output; the bag that was read is unchanged',
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return _report(output, scans, folder)


def _describe(folder: Path, scans: Sequence[McapScan]) -> None:
    """Write the `metadata.yaml` that a whole bag lacks."""
    try:
        write_metadata_of(folder, scans)
    except OSError as error:
        raise OutputError(
            expected=f'a place for {METADATA} in {folder}, whose files are whole',
            found=error.strerror or str(error),
            remedy='make the folder writable, or write a copy with --output',
        ) from error


def _growing(path: Path) -> BagError:
    return BagError(
        expected=f'a bag at {path} that nobody writes to', found='one that grows', remedy='stop the recorder first'
    )


def _state(file: Path) -> tuple[int, int, int]:
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _settled(partial: Path, path: Path, progress: Progress | None) -> Recovery:
    """Make a bag of what a recorder of this package left, and move it to its path.

    Where its end alone is missing, that is written: a recording may be as large as the disk. Bytes that are cut are
    kept beside the file. A file that is damaged elsewhere is copied, and kept as it is beside the copy.
    """
    files = _files(partial)
    scans = [scan(file, _share(progress, files, number, 0.0)) for number, file in enumerate(files)]
    _refuse_nothing(path, scans)
    try:
        if all(found.complete or found.torn_at is not None for found in scans):
            for found in scans:
                finish(found.path, found.path.with_name(f'{found.path.name}.cut'))
            write_metadata_of(partial, scans, read_metadata(partial))
            partial.rename(path)
            return _report(path, scans, None)
        staging = _staging(path)
        try:
            _write(partial, files, scans, staging, path, progress)
            staging.rename(path)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        for found in scans:
            if not found.complete:
                found.path.rename(path / f'{found.path.name}.damaged')
        shutil.rmtree(partial)
    except OSError as error:
        raise OutputError(
            expected=f'room for the bag at {path}',
            found=error.strerror or str(error),
            remedy=f'make room; what was recorded is in {partial}',
        ) from error
    return _report(path, scans, None)


def _write(
    folder: Path,
    files: Sequence[Path],
    scans: Sequence[McapScan],
    staging: Path,
    output: Path,
    progress: Progress | None,
) -> None:
    """Write the sound parts of a bag's files, and its other files as they are, into a folder."""
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    single = output.suffix == '.mcap' and folder.is_file()
    written = []
    for number, (file, found) in enumerate(zip(files, scans)):
        target = staging / (output.name if single else file.name)
        if found.complete:
            shutil.copyfile(file, target)
            written.append(McapScan(**{**vars(found), 'path': target}))
        else:
            copied = copy(file, target, _share(progress, files, number, 0.5))
            copied.path = target
            written.append(copied)
    if single:
        return
    if folder.is_dir():
        for item in folder.iterdir():
            if item not in files and item.name != METADATA and not item.name.startswith('.'):
                (shutil.copytree if item.is_dir() else shutil.copyfile)(item, staging / item.name)
    write_metadata_of(staging, written, read_metadata(folder) if folder.is_dir() else None)


def _staging(output: Path) -> Path:
    return output.parent / f'.{output.name}.recovering'


def _refuse_nothing(path: Path, scans: Sequence[McapScan]) -> None:
    if not any(found.count for found in scans):
        reasons = [
            f'{damage.reason} at byte {damage.offset} of {found.path.name}'
            for found in scans
            for damage in found.damages[:1]
        ]
        raise BagError(
            expected=f'messages in {path}',
            found=f'none that is sound ({"; ".join(reasons) or "it is empty"})',
            remedy='copy the bag again from where it was recorded, or record it again',
        )


def _files(folder: Path) -> list[Path]:
    """Return the MCAP files of a bag, in their order."""
    if folder.is_file() and folder.suffix == '.mcap':
        return [folder]
    files = sorted(folder.glob('*.mcap'), key=_natural) if folder.is_dir() else []
    if not files:
        others = sorted(item.name for item in folder.iterdir()) if folder.is_dir() else []
        raise BagError(
            expected=f'MCAP files of a bag at {folder}',
            found=', '.join(others) or ('a file of another kind' if folder.is_file() else 'nothing there'),
            remedy='give the folder of the bag, or an MCAP file; sqlite3 bags are read as far as they go without it',
        )
    return files


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort bag_10 after bag_9."""
    return [(int(part), '') if part.isdigit() else (-1, part) for part in re.split(r'(\d+)', path.stem)]


def _report(path: Path, scans: Sequence[McapScan], original: Path | None) -> Recovery:
    spans = [found.span for found in scans if found.span]
    seconds = (max(last for _, last in spans) - min(first for first, _ in spans)) / 1e9 if spans else 0.0
    damages = tuple((found.path.name, damage) for found in scans for damage in found.damages)
    closed = all(found.closed for found in scans)
    return Recovery(path, sum(found.count for found in scans), seconds, damages, closed, original)


def _share(progress: Progress | None, files: Sequence[Path], number: int, begin: float) -> Progress | None:
    if progress is None:
        return None
    return lambda share: progress(begin + (number + share) / len(files) / 2)


def _free(path: Path) -> Path:
    """Return a path near another that is free."""
    stem, suffix = (path.stem, '.mcap') if path.suffix == '.mcap' and path.is_file() else (path.name, '')
    candidate, number = path.with_name(f'{stem}_recovered{suffix}'), 2
    while candidate.exists():
        candidate, number = path.with_name(f'{stem}_recovered_{number}{suffix}'), number + 1
    return candidate
