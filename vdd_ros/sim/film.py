"""Films: pictures one after the other, as a file that every browser plays."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np

from vdd_ros.common.errors import OutputError, SimulationError


class Film:
    """An MP4 under way; use it as a context. It is written aside and is at its place when it is whole."""

    def __init__(self, path: str | Path, rate: float = 30.0) -> None:
        """Plan a film of ``rate`` pictures per second.

        Raises
        ------
        SimulationError
            The encoder is not installed.

        """
        try:
            import imageio_ffmpeg
        except ImportError as error:
            raise SimulationError(
                expected='the python package imageio-ffmpeg to encode films',
                found='none',
                remedy='pip install -r requirements/video.txt, or do without films',
            ) from error
        self._encoder = imageio_ffmpeg
        self._path = Path(path)
        self._aside = self._path.with_name(f'.{self._path.stem}.partial{self._path.suffix}')
        self._rate = rate
        self._size: tuple[int, int] | None = None

    def add(self, picture: np.ndarray) -> None:
        """Append a picture of shape (height, width, 3), uint8 RGB: as large as the first, and even on both sides.

        Raises
        ------
        SimulationError
            It is of another size or kind.

        """
        height, width = picture.shape[:2]
        size = self._size or (width, height)
        if (width, height) != size or picture.shape[2:] != (3,) or picture.dtype != np.uint8 or width % 2 or height % 2:
            raise SimulationError(
                expected=f'pictures of {size[0]} x {size[1]}, both even, in RGB',
                found=f'one of shape {picture.shape}, {picture.dtype}',
                remedy='render all pictures of a film alike',
            )
        if self._size is None:
            self._size = size
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._frames = self._encoder.write_frames(
                str(self._aside), size, fps=self._rate, quality=7, macro_block_size=2, ffmpeg_log_level='error'
            )
            self._frames.send(None)
        self._frames.send(np.ascontiguousarray(picture))

    def __enter__(self) -> Film:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the film; after an error, or without a picture, none is left."""
        if self._size is None:
            return
        self._frames.close()
        if kind is not None:
            self._aside.unlink(missing_ok=True)
            return
        if not self._aside.is_file():
            raise OutputError(
                expected=f'to write a film at {self._path}', found='no file', remedy='check that the folder is writable'
            )
        self._aside.replace(self._path)
