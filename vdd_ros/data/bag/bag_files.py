"""The files of a bag: storage by file name, and decompression of compressed files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import BinaryIO

import lz4.frame
import zstandard

SUFFIXES = ('.mcap', '.db3', '.bag')
"""MCAP and sqlite3 of rosbag2, and bags of ROS 1."""
_COMPRESSIONS = {'.zstd': 'zstd', '.zst': 'zstd', '.lz4': 'lz4'}
_PIECE = 1 << 20
_ACTIVE = '.active'
"""Suffix that `rosbag record` of ROS 1 appends while it records."""


def is_compressed(path: Path) -> bool:
    """Return whether a file is compressed as a whole, judged by its name."""
    return path.suffix in _COMPRESSIONS


def plain_name(path: Path) -> str:
    """Return the name of a file without compression suffix and without the suffix of an unfinished recording."""
    return path.stem if is_compressed(path) or path.suffix == _ACTIVE else path.name


def storage(path: Path) -> str:
    """Return the storage suffix of a file, one of `SUFFIXES`; empty for other files."""
    suffix = Path(plain_name(path)).suffix
    return suffix if suffix in SUFFIXES and path.is_file() else ''


def decompress(path: Path, target: Path) -> str:
    """Write a decompressed copy of a file, as far as possible; return why it ends early, or an empty text.

    Raises
    ------
    OSError
        A file cannot be read or written.

    """
    try:
        with path.open('rb') as packed, target.open('wb') as plain:
            if _COMPRESSIONS[path.suffix] == 'zstd':
                return _unpacked(packed, plain)
            with lz4.frame.open(packed) as source:
                shutil.copyfileobj(source, plain)
    except (zstandard.ZstdError, RuntimeError, EOFError) as error:
        return ' '.join(str(error).split())[:100] or type(error).__name__
    return ''


def _unpacked(packed: BinaryIO, plain: BinaryIO) -> str:
    """Decompress consecutive zstd frames; return the reason of a premature end, or nothing."""
    frame, whole = zstandard.ZstdDecompressor().decompressobj(), False
    while data := packed.read(_PIECE):
        while data:
            plain.write(frame.decompress(data))
            data, whole = frame.unused_data, frame.eof
            if whole:
                frame = zstandard.ZstdDecompressor().decompressobj()
    return '' if whole else 'it ends too early'
