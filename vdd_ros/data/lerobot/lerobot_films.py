"""Videos of LeRobot datasets: access by time, for any order of episodes in a file. Uses PyAV."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from vdd_ros.common.errors import BagError, OutputError
from vdd_ros.data.lerobot.lerobot_tables import FileLimits

CODECS = {
    'h264': ('libx264', {'crf': '18', 'g': '2'}),
    'av1': ('libsvtav1', {'crf': '25', 'g': '2', 'preset': '8'}),
    'lossless': ('libx264rgb', {'qp': '0', 'g': '2', 'preset': 'veryfast'}),
}
"""Encoder and options by name. Every second frame is a key frame, for fast random access. `lossless` is H.264 in RGB:
decoded frames are identical to the images."""


def pictures_at(path: Path, times: np.ndarray, tolerance: float, where: str) -> Iterator[np.ndarray]:
    """Yield the frames of a video nearest to given times, shape (height, width, 3) uint8.

    Parameters
    ----------
    path
        The video file.
    times
        Shape (frame,), ascending, since the beginning of the video [s].
    tolerance
        Maximum distance of a frame from the requested time [s].
    where
        Name of the images for error messages.

    Raises
    ------
    BagError
        The video cannot be read, or has no frame near one of the times.

    """
    av = _av()
    try:
        with av.open(str(path)) as film:
            stream = film.streams.video[0]
            stream.thread_type = 'AUTO'
            begin = max(float(times[0]) - tolerance, 0.0)
            film.seek(int(begin / stream.time_base), stream=stream, backward=True)
            pictures = (picture for picture in film.decode(stream) if picture.time is not None)
            now, following = None, next(pictures, None)
            for number, time in enumerate(times.tolist()):
                while following is not None and (now is None or abs(following.time - time) <= abs(now.time - time)):
                    now, following = following, next(pictures, None)
                if now is None or abs(now.time - time) > tolerance:
                    near = f'the nearest at {now.time:.4f} s' if now is not None else 'none'
                    raise BagError(
                        expected=f'an image at {time:.4f} s of {path}, for frame {number} of {where}',
                        found=near,
                        remedy='copy the complete dataset again',
                    )
                yield now.to_ndarray(format='rgb24')
    except (av.error.FFmpegError, IndexError) as error:
        raise BagError(
            expected=f'a video at {path}', found=' '.join(str(error).split())[:120], remedy='copy the dataset again'
        ) from error


@dataclass(frozen=True)
class Stretch:
    """The part of a video that belongs to an episode."""

    file: tuple[int, int]
    """Index of the chunk folder, and of the file in it."""
    begin: float
    """Begin in the video [s]."""
    end: float
    """End in the video [s]."""


class FilmWriter:
    """Writes the images of one camera, episode after episode, into videos of limited size."""

    def __init__(
        self, folder: Path, pattern: str, size: tuple[int, int], rate: float, codec: str, limits: FileLimits
    ) -> None:
        """Prepare videos of images of a size (height, width) at a rate [Hz].

        ``pattern`` gives the file names in the folder from ``chunk_index`` and ``file_index``.

        Raises
        ------
        OutputError
            The codec is not in `CODECS`.

        """
        if codec not in CODECS:
            raise OutputError(expected=f'one of {", ".join(CODECS)}', found=codec, remedy='choose one of them')
        self._folder, self._pattern, self._size, self._codec = folder, pattern, size, codec
        self._limits = limits
        self._rate = Fraction(rate).limit_denominator(10_000)
        self._file = (0, 0)
        self._film: Any = None
        self._stream: Any = None
        self._count = 0
        even = not size[0] % 2 and not size[1] % 2
        self._format = 'yuv420p' if even or codec != 'h264' else 'yuv444p'
        if codec == 'lossless':
            self._format = 'rgb24'

    def describe(self) -> dict[str, Any]:
        """Return the `info.json` entries of the videos."""
        rate = int(self._rate) if self._rate.denominator == 1 else float(self._rate)
        stored = {'lossless': ('h264', 'gbrp')}.get(self._codec, (self._codec, self._format))
        found = {'height': self._size[0], 'width': self._size[1], 'codec': stored[0], 'pix_fmt': stored[1]}
        found |= {'is_depth_map': False, 'fps': rate, 'channels': 3}
        return {f'video.{name}': value for name, value in found.items()} | {'has_audio': False}

    def add(self, pictures: np.ndarray) -> Stretch:
        """Append the images of an episode, shape (frame, height, width, 3) uint8.

        Raises
        ------
        OutputError
            The images cannot be encoded or written.

        """
        av = _av()
        try:
            # An encoder with lookahead may not have written anything yet.
            limit = self._limits.video_megabytes * 2**20
            if self._film is not None and self._path().exists() and self._path().stat().st_size > limit:
                self.close()
                self._file = self._limits.following(*self._file)
            if self._film is None:
                self._open(av)
            begin = self._count / self._rate
            for pixels in pictures:
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format='rgb24')
                picture.pts = self._count
                self._film.mux(self._stream.encode(picture))
                self._count += 1
            return Stretch(self._file, float(begin), float(self._count / self._rate))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            height, width = self._size
            raise OutputError(
                expected=f'images of {height} x {width} supported by {self._codec}',
                found=' '.join(str(error).split())[:120],
                remedy='choose another codec, or export without videos',
            ) from error

    def close(self) -> None:
        """Finish the current file."""
        if self._film is None:
            return
        film, self._film = self._film, None
        try:
            film.mux(self._stream.encode())
        finally:
            film.close()

    def abandon(self) -> None:
        """Close the current file without finishing it."""
        if self._film is not None:
            with contextlib.suppress(_av().error.FFmpegError, OSError):  # the file is discarded
                self._film.close()
            self._film = None

    def _path(self) -> Path:
        return self._folder / self._pattern.format(chunk_index=self._file[0], file_index=self._file[1])

    def _open(self, av: ModuleType) -> None:
        path = self._path()
        path.parent.mkdir(parents=True, exist_ok=True)
        encoder, options = CODECS[self._codec]
        os.environ.setdefault('SVT_LOG', '1')  # errors only: the AV1 encoder bypasses log handlers
        self._film = av.open(str(path), 'w')
        self._stream = self._film.add_stream(encoder, rate=self._rate, options=dict(options))
        self._stream.height, self._stream.width = self._size
        self._stream.pix_fmt = self._format
        self._stream.codec_context.time_base = 1 / self._rate
        with _ordinary_priority():
            self._stream.codec_context.open()
        self._count = 0


@contextlib.contextmanager
def _ordinary_priority() -> Iterator[None]:
    """Take back the real-time priority that the AV1 encoder gives to the calling thread and to its own, if permitted.

    With the privileges of root, SVT-AV1 sets SCHED_FIFO with priority 99: the export, and every process that it
    starts, would stop all others on these cores.
    """
    if not hasattr(os, 'sched_getscheduler'):
        yield
        return
    ordinary = os.sched_getscheduler(0), os.sched_getparam(0)
    before = set(_real_time_threads())
    try:
        yield
    finally:
        for thread in set(_real_time_threads()) - before:
            with contextlib.suppress(OSError):  # it has ended
                os.sched_setscheduler(thread, *ordinary)


def _real_time_threads() -> Iterator[int]:
    """Yield the threads of this process in the scheduling class SCHED_FIFO."""
    for folder in Path('/proc/self/task').iterdir():
        with contextlib.suppress(OSError):
            if os.sched_getscheduler(int(folder.name)) == os.SCHED_FIFO:
                yield int(folder.name)


def _av() -> ModuleType:
    try:
        import av
        import av.error  # pyright: ignore[reportUnusedImport] - loads it for users of the module
    except ImportError as error:
        raise BagError(
            expected='the Python package av to read and write videos', found=str(error), remedy='pip install av'
        ) from error
    # Not `set_level`: its callback takes the lock of Python in threads of the decoder, which can wait for each other.
    av.logging.set_libav_level(av.logging.PANIC)
    return av
