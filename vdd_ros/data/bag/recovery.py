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
from vdd_ros.data.bag import mcap_copy, ros1_copy, sqlite_copy
from vdd_ros.data.bag.bag_files import SUFFIXES, decompress, is_compressed, plain_name, storage
from vdd_ros.data.bag.bag_metadata import METADATA, partial_path, read_metadata, write_metadata_of
from vdd_ros.data.bag.file_scan import DamagedPart, FileScan

Progress = Callable[[float], None]

_COPYING = {'.mcap': mcap_copy, '.db3': sqlite_copy, '.bag': ros1_copy}
"""By storage, what scans and copies its files."""
_JOURNALS = ('-wal', '-shm', '-journal')
_NEW, _PLAIN = 'new', 'plain'
"""Folders of the one in which a bag is made: the bag, and files that were decompressed."""


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
        unverified = sum(damage.unverified for _, damage in self.damages)
        lost += f'; {unverified} messages are kept unverified' * bool(unverified)
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
    """Tell whether a process of this machine is writing to a file, or to one of a bag in a folder, at this moment."""
    files = [path] if path.is_file() else [item for item in path.iterdir() if storage(item)]
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


def recover(
    path: str | Path,
    output: str | Path | None = None,
    progress: Progress | None = None,
    *,
    unverified: bool = False,
) -> Recovery:
    """Write a whole bag of all that is sound in one that was not closed, or is damaged.

    The bag that is read is not changed: the whole one is written beside it, as ``NAME_recovered``. A bag that is whole
    is left alone; where it lacks `metadata.yaml` alone, that is written. What a killed recorder of this package left
    in ``.NAME.partial`` becomes ``NAME``, with the bytes that were cut off its end, or the damaged original, in it.

    Of sqlite3 databases, rows are read page by page; bags of ROS 1 get a new index; files that are compressed as a
    whole are written plainly.

    Parameters
    ----------
    path
        A bag's folder, or where a killed recorder should have left one, or a file of a bag.
    output
        Where to write; a folder, or a file if the bag is one.
    progress
        Told the share that is done, in [0, 1].
    unverified
        Whether to keep the messages of MCAP chunks whose checksum is wrong, too, as far as they can be read: some of
        their bytes are not what was recorded.

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
    target = _free(path) if output is None else Path(output)
    if target.exists() or partial_path(target).exists():
        raise OutputError(
            expected=f'a free place at {target}', found='something there', remedy='choose another path or remove it'
        )
    staging = _staging(target)
    before = [_state(file) for file in files]
    try:
        plain = _plain(files, staging)
        scans = [
            _COPYING[storage(file)].scan(file, _share(progress, files, number, 0.0), unverified=unverified)
            for number, (file, _) in enumerate(plain)
        ]
        for found, file, (_, damages) in zip(scans, files, plain):
            found.path, found.damages = file, [*damages, *found.damages]
            found.complete &= not damages
        if before != [_state(file) for file in files]:
            raise _growing(path)
        _refuse_nothing(path, scans)
        if output is None and all(found.complete for found in scans):
            if folder.is_dir() and not (folder / METADATA).exists() and not any(map(is_compressed, files)):
                _describe(folder, scans)
            return _report(path, scans, None)
        _write(folder, [file for file, _ in plain], scans, staging, target, progress, unverified=unverified)
        if before != [_state(file) for file in files]:
            raise _growing(path)
        source = staging / _NEW / target.name if _is_single(folder, target) else staging / _NEW
        source.rename(target)
    except OSError as error:
        raise OutputError(
            expected=f'room for the recovered bag at {target}',
            found=error.strerror or str(error),
            remedy='make room, or write elsewhere with --output; the bag that was read is unchanged',
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return _report(target, scans, folder)


def _plain(files: Sequence[Path], staging: Path) -> list[tuple[Path, list[DamagedPart]]]:
    """Return the files, plain copies of those that are compressed, and what of them cannot be decompressed."""
    found = []
    for file in files:
        if not is_compressed(file):
            found.append((file, []))
            continue
        target = staging / _PLAIN / plain_name(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        why = decompress(file, target)
        size = target.stat().st_size
        damage = DamagedPart(file.stat().st_size, 0, f'it can be decompressed to {size} bytes only ({why})')
        found.append((target, [damage] * bool(why)))
    return found


def _describe(folder: Path, scans: Sequence[FileScan]) -> None:
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
    scans = [mcap_copy.scan(file, _share(progress, files, number, 0.0)) for number, file in enumerate(files)]
    _refuse_nothing(path, scans)
    try:
        if all(found.complete or found.torn_at is not None for found in scans):
            for found in scans:
                mcap_copy.finish(found.path, found.path.with_name(f'{found.path.name}.cut'))
            write_metadata_of(partial, scans, read_metadata(partial))
            partial.rename(path)
            return _report(path, scans, None)
        staging = _staging(path)
        try:
            _write(partial, files, scans, staging, path, progress)
            (staging / _NEW).rename(path)
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
    scans: Sequence[FileScan],
    staging: Path,
    output: Path,
    progress: Progress | None,
    *,
    unverified: bool = False,
) -> None:
    """Write the sound parts of a bag's files, and its other files as they are, into the folder `_NEW` of another."""
    new = staging / _NEW
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    single = _is_single(folder, output)
    written = []
    for number, (file, found) in enumerate(zip(files, scans)):
        target = new / (output.name if single else plain_name(file))
        if found.complete:
            shutil.copyfile(file, target)
            written.append(FileScan(**{**vars(found), 'path': target}))
        else:
            share = _share(progress, files, number, 0.5)
            copied = _COPYING[storage(file)].copy(file, target, share, unverified=unverified)
            copied.path = target
            written.append(copied)
    if single:
        return
    if folder.is_dir():
        for item in folder.iterdir():
            if not (item.name.startswith(('.', METADATA)) or storage(item) or storage(_main(item))):
                (shutil.copytree if item.is_dir() else shutil.copyfile)(item, new / item.name)
    if all(storage(found.path) != '.bag' for found in written):
        write_metadata_of(new, written, read_metadata(folder) if folder.is_dir() else None)


def _main(path: Path) -> Path:
    """Return the database that a journal belongs to; the path itself for other files."""
    return next((path.with_name(path.name.removesuffix(end)) for end in _JOURNALS if path.name.endswith(end)), path)


def _is_single(folder: Path, output: Path) -> bool:
    """Return whether a bag that is a file becomes a file."""
    return folder.is_file() and output.suffix == Path(plain_name(folder)).suffix


def _staging(output: Path) -> Path:
    return output.parent / f'.{output.name}.recovering'


def _refuse_nothing(path: Path, scans: Sequence[FileScan]) -> None:
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
    """Return the files of a bag, in their order."""
    if folder.is_file() and storage(folder):
        return [folder]
    files = [item for item in folder.iterdir() if storage(item)] if folder.is_dir() else []
    if not files:
        others = sorted(item.name for item in folder.iterdir()) if folder.is_dir() else []
        raise BagError(
            expected=f'files of a bag ({", ".join(SUFFIXES)}) at {folder}',
            found=', '.join(others) or ('a file of another kind' if folder.is_file() else 'nothing there'),
            remedy='give the folder of the bag, or one of its files',
        )
    return sorted(files, key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort bag_10 after bag_9."""
    return [(int(part), '') if part.isdigit() else (-1, part) for part in re.split(r'(\d+)', path.stem)]


def _report(path: Path, scans: Sequence[FileScan], original: Path | None) -> Recovery:
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
    name = Path(plain_name(path)) if storage(path) else Path(path.name)
    stem, suffix = (name.stem, name.suffix) if storage(path) else (path.name, '')
    candidate, number = path.with_name(f'{stem}_recovered{suffix}'), 2
    while candidate.exists():
        candidate, number = path.with_name(f'{stem}_recovered_{number}{suffix}'), number + 1
    return candidate
