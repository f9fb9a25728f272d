"""Recover bags that were not closed or are damaged: a complete bag of all sound parts, and a report of the rest."""

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
from vdd_ros.data.bag.bag_metadata import METADATA, claim_bag, partial_path, read_metadata, write_metadata_of
from vdd_ros.data.bag.file_scan import DamagedPart, FileScan

Progress = Callable[[float], None]

_COPYING = {'.mcap': mcap_copy, '.db3': sqlite_copy, '.bag': ros1_copy}
"""The scan and copy functions of each storage."""
_JOURNALS = ('-wal', '-shm', '-journal')
_NEW, _PLAIN = 'new', 'plain'
"""Subfolders of the temporary folder: the new bag, and decompressed files."""


@dataclass(frozen=True)
class Recovery:
    """The result of the recovery of a bag: the complete bag, and what was damaged or lost."""

    path: Path
    """The complete bag."""
    messages: int
    """Number of messages in the complete bag."""
    seconds: float
    """Duration from the first to the last message [s]."""
    damages: tuple[tuple[str, DamagedPart], ...]
    """Damaged parts, each with its file name; empty for an undamaged bag."""
    closed: bool
    """Whether the original was closed correctly. If not, messages that never reached the disk are unknown."""
    original: Path | None = None
    """The bag that was read, unchanged; None if it is the bag at `path`."""

    @property
    def lost_bytes(self) -> int:
        """Number of unreadable bytes."""
        return sum(damage.size for _, damage in self.damages)

    @property
    def lost_messages(self) -> int:
        """Number of messages known to be lost, according to indexes in the files."""
        return sum(damage.messages for _, damage in self.damages)

    def __str__(self) -> str:
        """Return a description in one line."""
        lost = 'nothing is lost' if self.closed else 'it was not closed; all written data are recovered'
        if self.lost_bytes or self.lost_messages:
            known = f' with {self.lost_messages} messages' if self.lost_messages else ''
            lost = f'{self.lost_bytes} bytes{known} could not be read'
        unverified = sum(damage.unverified for _, damage in self.damages)
        lost += f'; {unverified} messages are kept unverified' * bool(unverified)
        kept = f'; {self.original} is unchanged' if self.original is not None else ''
        return f'{self.path}: {self.messages} messages over {self.seconds:.1f} s; {lost}{kept}'


def settle(path: str | Path) -> Recovery | None:
    """Finish the bag that a killed recorder left for a path, if any. Call it before reading.

    Raises
    ------
    BagError
        The recorder is still running, or it left nothing readable.

    """
    path = Path(path)
    partial = partial_path(path)
    if path.exists() or not partial.is_dir():
        return None
    if is_growing(partial):
        raise BagError(
            expected=f'a finished bag at {path}', found='one that is being recorded', remedy='stop the recorder first'
        )
    return _settled(partial, path, None)


def settle_all(folder: Path, reserved: Path) -> list[Recovery | BagError | OutputError]:
    """Finish all bags that killed recorders left in a folder; return a recovery or an error for each of them.

    Bags that cannot be finished stay unchanged. A bag left for the path ``reserved``, which a new recorder is about to
    use, becomes ``NAME_recovered``.
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
    """Return whether a process of this machine is writing to a file, or to one of the files of a bag folder."""
    files = [path] if path.is_file() else [item for item in path.iterdir() if storage(item)]
    return any(map(_is_written, files))


def _is_written(path: Path) -> bool:
    with path.open('rb') as file:
        try:
            # The system grants a read lease only if no process has the file open for writing.
            fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)  # instead of SIGIO, which would end this process
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return True
        try:
            # Without leases, as on network file systems, the file lock of this package's recorders is checked.
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
    """Write a complete bag from all sound parts of a bag that was not closed or is damaged.

    The original bag is not changed. The new bag is written to the same folder as ``NAME_recovered``. Nothing is written
    for an undamaged bag, except a missing `metadata.yaml`. The ``.NAME.partial`` of a killed recorder of this package
    becomes ``NAME``, and contains the bytes removed from its end, or the damaged original.

    sqlite3 databases are read page by page. ROS 1 bags get a new index. Compressed files are written uncompressed.

    Parameters
    ----------
    path
        The folder of a bag, one of its files, or the path of a bag that a killed recorder left unfinished.
    output
        Where to write: a folder, or a file if the bag is a file.
    progress
        Called repeatedly with the completed share, in [0, 1].
    unverified
        Whether to keep the readable messages of MCAP chunks with a wrong checksum. Some of their bytes differ from the
        recording.

    Raises
    ------
    BagError
        There is nothing to recover, or a process still writes to the bag.
    OutputError
        The output exists or cannot be written.

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
    claim_bag(target)
    staging = _staging(target)
    before = [_state(file) for file in files]
    try:
        plain = _plain(files, staging)
        scans = _scans(files, plain, progress, unverified=unverified)
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
            expected=f'disk space for the recovered bag at {target}',
            found=error.strerror or str(error),
            remedy='free disk space, or write elsewhere with --output; the bag that was read is unchanged',
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return _report(target, scans, folder)


def _plain(files: Sequence[Path], staging: Path) -> list[tuple[Path, list[DamagedPart]]]:
    """Return the files, with compressed ones replaced by decompressed copies, and the damage found in compression."""
    found = []
    for file in files:
        if not is_compressed(file):
            found.append((file, []))
            continue
        target = staging / _PLAIN / plain_name(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        why = decompress(file, target)
        size = target.stat().st_size
        damage = DamagedPart(file.stat().st_size, 0, f'only {size} bytes can be decompressed ({why})')
        found.append((target, [damage] * bool(why)))
    return found


def _scans(
    files: Sequence[Path],
    plain: Sequence[tuple[Path, list[DamagedPart]]],
    progress: Progress | None,
    *,
    unverified: bool,
) -> list[FileScan]:
    """Return what is sound in the files of a bag, from their uncompressed copies (`_plain`)."""
    found = []
    for number, (file, (copy, damages)) in enumerate(zip(files, plain)):
        scan = _COPYING[storage(copy)].scan(copy, _share(progress, files, number, 0.0), unverified=unverified)
        scan.path, scan.damages = file, [*damages, *scan.damages]
        scan.complete &= not damages
        found.append(scan)
    return found


def _describe(folder: Path, scans: Sequence[FileScan]) -> None:
    """Write the missing `metadata.yaml` of an undamaged bag."""
    try:
        write_metadata_of(folder, scans)
    except OSError as error:
        raise OutputError(
            expected=f'a place for {METADATA} in {folder}, whose files are undamaged',
            found=error.strerror or str(error),
            remedy='make the folder writable, or write a copy with --output',
        ) from error


def _growing(path: Path) -> BagError:
    return BagError(
        expected=f'a finished bag at {path}', found='one that is being written', remedy='stop the recorder first'
    )


def _state(file: Path) -> tuple[int, int, int]:
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _settled(partial: Path, path: Path, progress: Progress | None) -> Recovery:
    """Make a bag of the partial bag of a recorder of this package, and move it to its path.

    If only its end is missing, the end is written in place, because a recording may be as large as the disk. Removed
    bytes are kept beside the file. A file with other damage is copied, and kept unchanged beside the copy.
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
            expected=f'disk space for the bag at {path}',
            found=error.strerror or str(error),
            remedy=f'free disk space; the recorded data are in {partial}',
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
    """Write the sound parts of a bag's files, and its other files unchanged, into the folder `_NEW` of `staging`."""
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
    """Return the database of a journal file; for other files the path itself."""
    return next((path.with_name(path.name.removesuffix(end)) for end in _JOURNALS if path.name.endswith(end)), path)


def _is_single(folder: Path, output: Path) -> bool:
    """Return whether a bag that is a single file is recovered into a single file."""
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
            found=f'no sound message ({"; ".join(reasons) or "it is empty"})',
            remedy='copy the bag again from where it was recorded, or record it again',
        )


def _files(folder: Path) -> list[Path]:
    """Return the files of a bag in order."""
    if folder.is_file() and storage(folder):
        return [folder]
    files = [item for item in folder.iterdir() if storage(item)] if folder.is_dir() else []
    if not files:
        others = sorted(item.name for item in folder.iterdir()) if folder.is_dir() else []
        raise BagError(
            expected=f'files of a bag ({", ".join(SUFFIXES)}) at {folder}',
            found=', '.join(others) or ('another file type' if folder.is_file() else 'nothing there'),
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
    """Return an unused path near another one."""
    name = Path(plain_name(path)) if storage(path) else Path(path.name)
    stem, suffix = (name.stem, name.suffix) if storage(path) else (path.name, '')
    candidate, number = path.with_name(f'{stem}_recovered{suffix}'), 2
    while candidate.exists():
        candidate, number = path.with_name(f'{stem}_recovered_{number}{suffix}'), number + 1
    return candidate
