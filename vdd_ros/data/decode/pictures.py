"""From images and point clouds, as they come over the wire, to the few numbers that a contract asks for."""

from __future__ import annotations

import io
import struct
import threading
import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from vdd_ros.contract.features import Image
from vdd_ros.data.decode.serialized import Undecodable


def _places(pattern: str, color: str) -> list[int]:
    return [place for place, letter in enumerate(pattern) if letter == color]


# numpy code, channels, the places of red, green and blue
_ENCODINGS = {
    'rgb8': ('u1', 3, (0, 1, 2)),
    'bgr8': ('u1', 3, (2, 1, 0)),
    'rgba8': ('u1', 4, (0, 1, 2)),
    'bgra8': ('u1', 4, (2, 1, 0)),
    '8UC3': ('u1', 3, (2, 1, 0)),
    '8UC4': ('u1', 4, (2, 1, 0)),
    'rgb16': ('u2', 3, (0, 1, 2)),
    'bgr16': ('u2', 3, (2, 1, 0)),
    'rgba16': ('u2', 4, (0, 1, 2)),
    'bgra16': ('u2', 4, (2, 1, 0)),
    'mono8': ('u1', 1, ()),
    '8UC1': ('u1', 1, ()),
    'mono16': ('u2', 1, ()),
    '16UC1': ('u2', 1, ()),
    '32FC1': ('f4', 1, ()),
}
# Of two pixels in a row that share their colour, the places of both brightnesses, of blue and of red.
_SHARED_COLORS = dict.fromkeys(('yuv422', 'uyvy'), (1, 3, 0, 2)) | dict.fromkeys(('yuv422_yuy2', 'yuyv'), (0, 2, 1, 3))
# Of four pixels behind a colour filter, by rows: the places of red, of both greens, and of blue.
_FILTERED = {
    f'bayer_{pattern}{bits}': (f'u{bits // 8}', tuple(place for color in 'rgb' for place in _places(pattern, color)))
    for pattern in ('rggb', 'bggr', 'gbrg', 'grbg')
    for bits in (8, 16)
}
_KNOWN = (*_ENCODINGS, *_SHARED_COLORS, *_FILTERED)
_LUMA = np.array([299, 587, 114])
_MILLIMETER = 1e-3
_FILTERS = threading.Lock()
"""Held while filters of warnings are changed, which all threads share."""


def raw_image(
    data: np.ndarray, height: int, width: int, step: int, encoding: str, big_endian: bool, wanted: Image
) -> np.ndarray:
    """Shrink the bytes of a sensor_msgs/Image to shape (``wanted.size``,): see `_shrunk`.

    Raises
    ------
    Undecodable
        The encoding is not known, does not give what is wanted, or the bytes do not make such an image.

    """
    if encoding not in _KNOWN:
        raise Undecodable(f'encoding {encoding!r}; known are {", ".join(_KNOWN)}')
    if encoding in _SHARED_COLORS:
        code, channels, colors = 'u1', 2, ()
    else:
        code, channels, colors = _ENCODINGS.get(encoding) or (_FILTERED[encoding][0], 1, ())
    kind = np.dtype(f'{">" if big_endian else "<"}{code}')
    row = width * channels * kind.itemsize
    if not height or not width or step < row or len(data) < (height - 1) * step + row:
        raise Undecodable(f'{len(data)} bytes for {height} rows of {step} bytes, {width} pixels of {encoding}')
    rows = np.lib.stride_tricks.as_strided(data, (height, row), (step, 1))
    pixels = np.ascontiguousarray(rows).view(kind).reshape(height, width, channels)
    if encoding not in _ENCODINGS:
        if width < 2 or width % 2 or (encoding in _FILTERED and (height < 2 or height % 2)):
            raise Undecodable(f'{height} x {width} pixels of {encoding}, of which two make one colour')
        pixels = _separated(pixels, encoding) if encoding in _SHARED_COLORS else _unfiltered(pixels[..., 0], encoding)
    return _shrunk(pixels, wanted, colors)


def _separated(pixels: np.ndarray, encoding: str) -> np.ndarray:
    """Return red, green and blue of YUV 4:2:2 in the range of video (ITU-R BT.601), shape (row, column, 3) uint8."""
    height, width, _ = pixels.shape
    pairs = pixels.reshape(height, width // 2, 4).astype(np.float32)
    first, second, blue, red = (pairs[..., place] for place in _SHARED_COLORS[encoding])
    bright = np.stack([first, second], axis=2).reshape(height, width) - 16
    u, v = (np.repeat(item - 128, 2, axis=1) for item in (blue, red))
    bright = 255 / 219 * bright
    colors = (bright + 1.596027 * v, bright - 0.391762 * u - 0.812968 * v, bright + 2.017232 * u)
    return np.clip(np.rint(np.stack(colors, axis=2)), 0, 255).astype(np.uint8)


def _unfiltered(pixels: np.ndarray, encoding: str) -> np.ndarray:
    """Return red, green and blue of pixels behind a colour filter: four make one, shape (row / 2, column / 2, 3)."""
    four = [pixels[place // 2 :: 2, place % 2 :: 2].astype(np.uint32) for place in range(4)]
    red, one, other, blue = (four[place] for place in _FILTERED[encoding][1])
    return np.stack([red, (one + other + 1) // 2, blue], axis=2).astype(pixels.dtype.newbyteorder('='))


def compressed_image(data: bytes, form: str, wanted: Image) -> np.ndarray:
    """Shrink the bytes of a sensor_msgs/CompressedImage (JPEG, PNG, or compressedDepth) to shape (``wanted.size``,).

    What comes back is as `_shrunk` says.

    Raises
    ------
    Undecodable
        They are no such picture.

    """
    depth = 'compressedDepth' in form
    try:
        with _FILTERS, warnings.catch_warnings():
            warnings.simplefilter('error', Pillow.DecompressionBombWarning)
            picture = Pillow.open(io.BytesIO(data[12:] if depth else data), formats=('JPEG', 'PNG'))
        if picture.mode not in ('RGB', 'L', 'I;16', 'I;16B', 'I'):
            picture = picture.convert('RGB')
        pixels = np.asarray(picture)
    except (UnidentifiedImageError, Pillow.DecompressionBombWarning, Pillow.DecompressionBombError) as error:
        raise Undecodable(f'no JPEG or PNG: {type(error).__name__}') from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:  # Pillow raises all of these
        raise Undecodable(f'a damaged picture: {" ".join(str(error).split())[:80]}') from error
    if depth and form.startswith('32FC1'):
        _, quantum, shift = struct.unpack_from('<iff', data)
        with np.errstate(divide='ignore', invalid='ignore'):
            pixels = np.where(pixels == 0, 0.0, quantum / (pixels.astype(np.float64) - shift))
    elif pixels.dtype == np.int32:
        pixels = pixels.astype(np.uint16)
    return _shrunk(pixels[..., None] if pixels.ndim == 2 else pixels, wanted)


def _shrunk(pixels: np.ndarray, wanted: Image, colors: tuple[int, ...] = ()) -> np.ndarray:
    """Average pixels of shape (row, column, channel) over equal shares of the picture.

    ``colors`` are the places of red, green and blue among the channels, if they are not in this order.

    Returns
    -------
    Shape (``wanted.size``,). Of depth, float32 [m], 0 where none is known. Of colours, shares of full brightness as
    unsigned integers (`frames.real`): of eight bits where each number is that of one pixel of eight, else of sixteen.
    """
    shares = _shares(*pixels.shape[:2], wanted.height, wanted.width)
    if wanted.color == 'depth':
        if pixels.shape[2] != 1 or pixels.dtype == np.uint8:
            raise Undecodable('no depth in a picture of colours')
        depth = pixels.astype(np.float64) * (_MILLIMETER if pixels.dtype.kind == 'u' else 1.0)
        known = np.isfinite(depth) & (depth > 0)
        total = _summed(np.where(known, depth, 0.0), shares)
        count = _summed(known.astype(np.float64), shares)
        return (total / np.maximum(count, 1.0)).ravel().astype(np.float32)
    if pixels.dtype.kind == 'f':
        raise Undecodable('no colours in a picture of depth')
    full = np.iinfo(pixels.dtype).max
    values = _summed(pixels, shares)
    if colors not in ((), (0, 1, 2)) or (colors and values.shape[2] > 3):
        values = values[..., list(colors)]
    if wanted.color == 'gray' and values.shape[2] == 3:
        values, full = (values.astype(np.int64) * _LUMA).sum(axis=2, keepdims=True), full * 1000
    elif wanted.color == 'rgb' and values.shape[2] == 1:
        values = np.repeat(values, 3, axis=2)
    if full == 255 and shares.most == (1, 1):
        return values.astype(np.uint8).ravel()
    return (values * (65535 / full / shares.pixels) + 0.5).astype(np.uint16).ravel()


@dataclass(frozen=True)
class _Shares:
    """How a picture is cut into equal shares, each of rows and columns that follow each other."""

    rows: np.ndarray
    """The first row of each share."""
    heights: np.ndarray
    """How many rows each has."""
    columns: np.ndarray
    """The first column of each share."""
    most: tuple[int, int]
    """The most rows and columns that one has."""
    pixels: np.ndarray
    """Shape (height, width, 1): how many pixels each has."""
    lines: tuple[tuple[slice | np.ndarray, np.ndarray], ...]
    """Of the second row of each share that has so many, the third and so on: which shares, and which rows."""


@lru_cache(maxsize=64)
def _shares(rows: int, columns: int, height: int, width: int) -> _Shares:
    row, heights = _cut(rows, height)
    column, widths = _cut(columns, width)
    most = int(heights.max()), int(widths.max())
    lines = []
    for line in range(1, most[0] if most[0] <= height else 0):
        more = heights > line
        lines.append((slice(None) if more.all() else np.flatnonzero(more), row[more] + line))
    return _Shares(row, heights, column, most, (heights[:, None] * widths)[..., None], tuple(lines))


def _cut(size: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
    begin = np.arange(parts) * size // parts
    return begin, np.maximum(np.diff(np.append(begin, size)), 1)


def _summed(pixels: np.ndarray, shares: _Shares) -> np.ndarray:
    """Sum pixels of shape (row, column, channel) over shares, in the narrowest type that has room."""
    lines = pixels.reshape(len(pixels), -1)
    wide, wider = _sum_types(pixels.dtype, *shares.most)
    if shares.most[0] <= len(shares.rows):  # the first row of each share, then the second, and so on
        total = lines[shares.rows].astype(wide)
        for some, row in shares.lines:
            total[some] += lines[row]
    else:
        ends = zip(shares.rows.tolist(), shares.heights.tolist())
        total = np.stack([lines[begin : begin + size].sum(axis=0, dtype=wide) for begin, size in ends])
    total = total.reshape(len(total), *pixels.shape[1:])
    if len(shares.columns) == total.shape[1]:
        return total
    return np.add.reduceat(total, shares.columns, axis=1, dtype=wider)


@lru_cache(maxsize=64)
def _sum_types(kind: np.dtype, rows: int, columns: int) -> tuple[np.dtype, np.dtype]:
    """Return the narrowest types in which the sums of some rows, and of columns of these, have room."""
    if kind.kind == 'f':
        return np.dtype(np.float64), np.dtype(np.float64)
    greatest = int(np.iinfo(kind).max) * rows
    return np.min_scalar_type(greatest), np.min_scalar_type(greatest * columns)


def cloud(
    data: np.ndarray,
    shape: tuple[int, int],
    steps: tuple[int, int],
    columns: tuple[tuple[int, str], ...],
    wanted: int,
) -> np.ndarray:
    """Return ``wanted`` finite points of a cloud, evenly spread over it, as shape (3 * wanted,) [m].

    Parameters
    ----------
    data
        The bytes of the cloud.
    shape
        Rows, and points in each of them.
    steps
        Bytes from one row to the next (more than its points take where rows are padded; without meaning in a cloud of
        one row), and from one point to the next.
    columns
        Where x, y and z are within a point: offset and numpy code.

    Raises
    ------
    Undecodable
        No point is finite, or the bytes are too few.

    """
    (height, width), (row_step, step) = shape, steps
    if height == 1:
        row_step = width * step
    if not height * width:
        raise Undecodable('a cloud without points')
    short = row_step < width * step or (height - 1) * row_step + width * step > len(data)
    if short or any(offset + np.dtype(code).itemsize > step for offset, code in columns):
        raise Undecodable(f'{len(data)} bytes for {height} rows of {row_step} bytes, {width} points of {step} bytes')
    points = np.concatenate(
        [
            np.ndarray((height, width, 1), code, np.ascontiguousarray(data), offset, (row_step, step, 1))
            .reshape(height * width, 1)
            .astype(np.float64)
            for offset, code in columns
        ],
        axis=1,
    )
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        raise Undecodable('a cloud without a finite point')
    return points[np.arange(wanted) * len(points) // wanted].ravel()
