"""Write images as a video that every browser can play."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np

from vdd_ros.common.errors import OutputError, SimulationError


class Film:
    """An MP4 in progress; use it as a context manager. The file appears at its path when it is complete."""

    def __init__(self, path: str | Path, rate: float = 30.0) -> None:
        """Prepare a video with ``rate`` images per second.

        Raises
        ------
        SimulationError
            The encoder is not installed.

        """
        try:
            import imageio_ffmpeg
        except ImportError as error:
            raise SimulationError(
                expected='the Python package imageio-ffmpeg to encode videos',
                found='none',
                remedy='pip install -r requirements/video.txt, or run without videos',
            ) from error
        self._encoder = imageio_ffmpeg
        self._path = Path(path)
        self._aside = self._path.with_name(f'.{self._path.stem}.partial{self._path.suffix}')
        self._rate = rate
        self._size: tuple[int, int] | None = None

    def add(self, picture: np.ndarray) -> None:
        """Append an image of shape (height, width, 3), uint8 RGB, with even sides and the size of the first image.

        Raises
        ------
        SimulationError
            The size or type is wrong.

        """
        height, width = picture.shape[:2]
        size = self._size or (width, height)
        if (width, height) != size or picture.shape[2:] != (3,) or picture.dtype != np.uint8 or width % 2 or height % 2:
            raise SimulationError(
                expected=f'RGB images of {size[0]} x {size[1]}, both even',
                found=f'an image of shape {picture.shape}, {picture.dtype}',
                remedy='render all images of a video with the same size',
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
        """Finish the video; after an error or without an image, no file is left."""
        if self._size is None:
            return
        self._frames.close()
        if kind is not None:
            self._aside.unlink(missing_ok=True)
            return
        if not self._aside.is_file():
            raise OutputError(
                expected=f'a video at {self._path}', found='no file written', remedy='check that the folder is writable'
            )
        self._aside.replace(self._path)
