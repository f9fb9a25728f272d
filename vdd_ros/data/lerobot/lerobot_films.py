"""Films of LeRobot datasets: pictures by their time, in whatever order episodes lie in a file. By PyAV."""

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

CODECS = {
    'h264': ('libx264', {'crf': '18', 'g': '2'}),
    'av1': ('libsvtav1', {'crf': '25', 'g': '2', 'preset': '8'}),
}
"""By name, the encoder and its options: every other picture stands alone, so that readers get at any of them fast."""


def pictures_at(path: Path, times: np.ndarray, tolerance: float, where: str) -> Iterator[np.ndarray]:
    """Yield the pictures of a film that are nearest to some times, shape (height, width, 3) uint8.

    Parameters
    ----------
    path
        The film.
    times
        Shape (frame,), ascending, from the beginning of the film [s].
    tolerance
        How far the time of a picture may be from the one that is asked for [s].
    where
        What the pictures are of, for complaints.

    Raises
    ------
    BagError
        The film cannot be read, or has no picture near one of the times.

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
                        expected=f'a picture at {time:.4f} s of {path}, for frame {number} of {where}',
                        found=near,
                        remedy='copy the dataset again, and all of it',
                    )
                yield now.to_ndarray(format='rgb24')
    except (av.error.FFmpegError, IndexError) as error:
        raise BagError(
            expected=f'a film at {path}', found=' '.join(str(error).split())[:120], remedy='copy the dataset again'
        ) from error


@dataclass(frozen=True)
class Stretch:
    """Where an episode lies in a film."""

    file: tuple[int, int]
    """Chunk and file."""
    begin: float
    """[s]"""
    end: float
    """[s]"""


class FilmWriter:
    """Writes the pictures of one camera, episode after episode, into films of limited size."""

    def __init__(self, folder: Path, pattern: str, size: tuple[int, int], rate: float, codec: str) -> None:
        """Plan films of pictures of a size (height, width) at a rate [Hz].

        ``pattern`` names the files in the folder by ``chunk_index`` and ``file_index``.

        Raises
        ------
        OutputError
            The codec is none of `CODECS`.

        """
        if codec not in CODECS:
            raise OutputError(expected=f'one of {", ".join(CODECS)}', found=codec, remedy='choose one of them')
        self._folder, self._pattern, self._size, self._codec = folder, pattern, size, codec
        self._rate = Fraction(rate).limit_denominator(10_000)
        self._file = (0, 0)
        self._film: Any = None
        self._stream: Any = None
        self._count = 0
        even = not size[0] % 2 and not size[1] % 2
        self._format = 'yuv420p' if even or codec != 'h264' else 'yuv444p'

    def describe(self) -> dict[str, Any]:
        """Return what `info.json` says of the films."""
        rate = int(self._rate) if self._rate.denominator == 1 else float(self._rate)
        found = {'height': self._size[0], 'width': self._size[1], 'codec': self._codec, 'pix_fmt': self._format}
        found |= {'is_depth_map': False, 'fps': rate, 'channels': 3}
        return {f'video.{name}': value for name, value in found.items()} | {'has_audio': False}

    def add(self, pictures: np.ndarray, limit: int, files_in_chunk: int) -> Stretch:
        """Append the pictures of an episode, shape (frame, height, width, 3) uint8.

        A file that has more bytes than ``limit`` takes no further episode.

        Raises
        ------
        OutputError
            They cannot be encoded or written.

        """
        av = _av()
        try:
            # An encoder that looks ahead may not have written anything yet.
            if self._film is not None and self._path().exists() and self._path().stat().st_size > limit:
                self.close()
                chunk, file = self._file
                self._file = (chunk + 1, 0) if file + 1 == files_in_chunk else (chunk, file + 1)
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
                expected=f'pictures of {height} x {width} that {self._codec} can encode',
                found=' '.join(str(error).split())[:120],
                remedy='choose another codec, or leave the films out',
            ) from error

    def close(self) -> None:
        """Finish the file that is open."""
        if self._film is None:
            return
        film, self._film = self._film, None
        try:
            film.mux(self._stream.encode())
        finally:
            film.close()

    def abandon(self) -> None:
        """Let go of the file that is open, whatever is in it."""
        if self._film is not None:
            with contextlib.suppress(_av().error.FFmpegError, OSError):  # it is thrown away, and need not be whole
                self._film.close()
            self._film = None

    def _path(self) -> Path:
        return self._folder / self._pattern.format(chunk_index=self._file[0], file_index=self._file[1])

    def _open(self, av: ModuleType) -> None:
        path = self._path()
        path.parent.mkdir(parents=True, exist_ok=True)
        encoder, options = CODECS[self._codec]
        os.environ.setdefault('SVT_LOG', '1')  # errors alone: the encoder of AV1 writes past all handlers of logs
        self._film = av.open(str(path), 'w')
        self._stream = self._film.add_stream(encoder, rate=self._rate, options=dict(options))
        self._stream.height, self._stream.width = self._size
        self._stream.pix_fmt = self._format
        self._stream.codec_context.time_base = 1 / self._rate
        self._count = 0


def _av() -> ModuleType:
    try:
        import av
        import av.error
    except ImportError as error:
        raise BagError(
            expected='the python package av to read and write films', found=str(error), remedy='pip install av'
        ) from error
    av.logging.set_level(av.logging.PANIC)
    return av
