"""Reduce transmitted images and point clouds to the numbers defined by a contract."""

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


# numpy code, channels, indices of red, green and blue
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
# For two neighbouring pixels with common chroma: indices of both luma values, of Cb and of Cr.
_SHARED_COLORS = dict.fromkeys(('yuv422', 'uyvy'), (1, 3, 0, 2)) | dict.fromkeys(('yuv422_yuy2', 'yuyv'), (0, 2, 1, 3))
# For four pixels of a Bayer pattern, by rows: indices of red, both greens, and blue.
_FILTERED = {
    f'bayer_{pattern}{bits}': (f'u{bits // 8}', tuple(place for color in 'rgb' for place in _places(pattern, color)))
    for pattern in ('rggb', 'bggr', 'gbrg', 'grbg')
    for bits in (8, 16)
}
_KNOWN = (*_ENCODINGS, *_SHARED_COLORS, *_FILTERED)
_LUMA = np.array([299, 587, 114])
_MILLIMETER = 1e-3
_FILTERS = threading.Lock()
"""Lock for changes of the warning filters, which all threads share."""


def raw_image(
    data: np.ndarray,
    height: int,
    width: int,
    step: int,
    encoding: str,
    big_endian: bool,
    wanted: Image,
    *,
    pixels: bool = False,
) -> np.ndarray:
    """Reduce the bytes of a sensor_msgs/Image to shape (``wanted.size``,): see `_shrunk`.

    With ``pixels``, as `_reduced` returns them.

    Raises
    ------
    Undecodable
        The encoding is unknown or does not match the requested kind, or the bytes do not match the size.

    """
    if encoding not in _KNOWN:
        raise Undecodable(f'encoding {encoding!r}; supported: {", ".join(_KNOWN)}')
    if encoding in _SHARED_COLORS:
        code, channels, colors = 'u1', 2, ()
    else:
        code, channels, colors = _ENCODINGS.get(encoding) or (_FILTERED[encoding][0], 1, ())
    kind = np.dtype(f'{">" if big_endian else "<"}{code}')
    row = width * channels * kind.itemsize
    if not height or not width or step < row or len(data) < (height - 1) * step + row:
        raise Undecodable(f'{len(data)} bytes for {height} rows of {step} bytes, {width} pixels of {encoding}')
    rows = np.lib.stride_tricks.as_strided(data, (height, row), (step, 1))
    found = np.ascontiguousarray(rows).view(kind).reshape(height, width, channels)
    if encoding not in _ENCODINGS:
        if width < 2 or width % 2 or (encoding in _FILTERED and (height < 2 or height % 2)):
            raise Undecodable(f'{height} x {width} pixels of {encoding}, of which two make one colour')
        found = _separated(found, encoding) if encoding in _SHARED_COLORS else _unfiltered(found[..., 0], encoding)
    return (_reduced if pixels else _shrunk)(found, wanted, colors)


def _separated(pixels: np.ndarray, encoding: str) -> np.ndarray:
    """Convert YUV 4:2:2 in video range (ITU-R BT.601) to RGB, shape (row, column, 3) uint8."""
    height, width, _ = pixels.shape
    pairs = pixels.reshape(height, width // 2, 4).astype(np.float32)
    first, second, blue, red = (pairs[..., place] for place in _SHARED_COLORS[encoding])
    bright = np.stack([first, second], axis=2).reshape(height, width) - 16
    u, v = (np.repeat(item - 128, 2, axis=1) for item in (blue, red))
    bright = 255 / 219 * bright
    colors = (bright + 1.596027 * v, bright - 0.391762 * u - 0.812968 * v, bright + 2.017232 * u)
    return np.clip(np.rint(np.stack(colors, axis=2)), 0, 255).astype(np.uint8)


def _unfiltered(pixels: np.ndarray, encoding: str) -> np.ndarray:
    """Convert a Bayer pattern to RGB: four pixels make one, shape (row / 2, column / 2, 3)."""
    four = [pixels[place // 2 :: 2, place % 2 :: 2].astype(np.uint32) for place in range(4)]
    red, one, other, blue = (four[place] for place in _FILTERED[encoding][1])
    return np.stack([red, (one + other + 1) // 2, blue], axis=2).astype(pixels.dtype.newbyteorder('='))


def compressed_image(data: bytes, form: str, wanted: Image, *, pixels: bool = False) -> np.ndarray:
    """Reduce a sensor_msgs/CompressedImage (JPEG, PNG, or compressedDepth) to shape (``wanted.size``,).

    The result is described at `_shrunk`; with ``pixels``, at `_reduced`.

    Raises
    ------
    Undecodable
        The bytes are not such an image.

    """
    depth = 'compressedDepth' in form
    try:
        with _FILTERS, warnings.catch_warnings():
            warnings.simplefilter('error', Pillow.DecompressionBombWarning)
            picture = Pillow.open(io.BytesIO(data[12:] if depth else data), formats=('JPEG', 'PNG'))
        if pixels and picture.format == 'JPEG':
            _draft(picture, wanted)
        if picture.mode not in ('RGB', 'L', 'I;16', 'I;16B', 'I'):
            picture = picture.convert('RGB')
        found = np.asarray(picture)
    except (UnidentifiedImageError, Pillow.DecompressionBombWarning, Pillow.DecompressionBombError) as error:
        raise Undecodable(f'no JPEG or PNG: {type(error).__name__}') from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:  # all raised by Pillow
        raise Undecodable(f'a damaged image: {" ".join(str(error).split())[:80]}') from error
    if depth and form.startswith('32FC1'):
        _, quantum, shift = struct.unpack_from('<iff', data)
        with np.errstate(divide='ignore', invalid='ignore'):
            found = np.where(found == 0, 0.0, quantum / (found.astype(np.float64) - shift))
    elif found.dtype == np.int32:
        found = found.astype(np.uint16)
    return (_reduced if pixels else _shrunk)(found[..., None] if found.ndim == 2 else found, wanted)


def _draft(picture: Pillow.Image, wanted: Image) -> None:
    """Let a JPEG be decoded at a half, a quarter or an eighth of its size, if no share of the result gets less."""
    columns, rows = picture.size
    _, _, high, wide = wanted.window(rows, columns)
    picture.draft(None, (-(-columns * wanted.width // wide), -(-rows * wanted.height // high)))


def _reduced(pixels: np.ndarray, wanted: Image, colors: tuple[int, ...] = ()) -> np.ndarray:
    """Average the part of an image that is wanted over equal shares of it; arguments as those of `_shrunk`.

    Returns
    -------
    Shape (``wanted.size``,). Of colours uint8, of depth int16 [mm], at most 32767, and 0 where none is known.
    """
    row, column, rows, columns = wanted.window(*pixels.shape[:2])
    found = _shrunk(pixels[row : row + rows, column : column + columns], wanted, colors)
    if wanted.color == 'depth':
        return np.minimum(np.rint(found * (1 / _MILLIMETER)), np.iinfo(np.int16).max).astype(np.int16)
    if found.dtype == np.uint8:
        return found
    return ((found.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _shrunk(pixels: np.ndarray, wanted: Image, colors: tuple[int, ...] = ()) -> np.ndarray:
    """Average pixels of shape (row, column, channel) over equal cells of the image.

    ``colors`` are the channel indices of red, green and blue, if they differ from this order.

    Returns
    -------
    Shape (``wanted.size``,). Depth is float32 [m], 0 where unknown. Colours are shares of full brightness as unsigned
    integers (`frames.real`): 8 bits if each number is one pixel of 8 bits, else 16 bits.
    """
    shares = _shares(*pixels.shape[:2], wanted.height, wanted.width)
    if wanted.color == 'depth':
        if pixels.shape[2] != 1 or pixels.dtype == np.uint8:
            raise Undecodable('no depth in a colour image')
        depth = pixels.astype(np.float64) * (_MILLIMETER if pixels.dtype.kind == 'u' else 1.0)
        known = np.isfinite(depth) & (depth > 0)
        total = _summed(np.where(known, depth, 0.0), shares)
        count = _summed(known.astype(np.float64), shares)
        return (total / np.maximum(count, 1.0)).ravel().astype(np.float32)
    if pixels.dtype.kind == 'f':
        raise Undecodable('no colours in a depth image')
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
    found = values * (65535 / full / shares.pixels).astype(np.float32)
    found += np.float32(0.5)
    return found.astype(np.uint16).ravel()


@dataclass(frozen=True)
class _Shares:
    """Division of an image into equal cells of consecutive rows and columns."""

    rows: np.ndarray
    """First row of each cell."""
    heights: np.ndarray
    """Number of rows of each cell."""
    columns: np.ndarray
    """First column of each cell."""
    most: tuple[int, int]
    """Maximum number of rows and columns of a cell."""
    pixels: np.ndarray
    """Shape (height, width, 1): number of pixels of each cell."""
    lines: Lines
    """For the second, third, ... row of the cells that have so many: the cells, and the rows."""


Lines = tuple[tuple[slice | np.ndarray, np.ndarray], ...]


@lru_cache(maxsize=64)
def _shares(rows: int, columns: int, height: int, width: int) -> _Shares:
    row, heights = _cut(rows, height)
    column, widths = _cut(columns, width)
    most = int(heights.max()), int(widths.max())
    lines = _lines(row, heights) if most[0] <= height else ()
    return _Shares(row, heights, column, most, (heights[:, None] * widths)[..., None], lines)


def _cut(size: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
    begin = np.arange(parts) * size // parts
    return begin, np.maximum(np.diff(np.append(begin, size)), 1)


def _lines(begin: np.ndarray, sizes: np.ndarray) -> Lines:
    """Return the second, third, ... line of the cells that have so many: the cells, and their lines."""
    found = []
    for line in range(1, int(sizes.max())):
        more = sizes > line
        found.append((slice(None) if more.all() else np.flatnonzero(more), begin[more] + line))
    return tuple(found)


@lru_cache(maxsize=64)
def _numbers(columns: int, width: int, channels: int) -> tuple[np.ndarray, Lines]:
    """Return the numbers of a row of pixels in the first column of each cell, and in further ones as in `_lines`."""

    def spread(pixels: np.ndarray) -> np.ndarray:
        return (pixels[:, None] * channels + np.arange(channels)).ravel()

    begin, widths = _cut(columns, width)
    further = _lines(begin, widths)
    lines = [(some if isinstance(some, slice) else spread(some), spread(column)) for some, column in further]
    return spread(begin), tuple(lines)


def _summed(pixels: np.ndarray, shares: _Shares) -> np.ndarray:
    """Sum pixels of shape (row, column, channel) over cells, in the narrowest sufficient type."""
    lines = pixels.reshape(len(pixels), -1)
    wide, wider = _sum_types(pixels.dtype, *shares.most)
    if shares.most[0] <= len(shares.rows):  # the first row of each share, then the second, and so on
        total = lines[shares.rows].astype(wide)
        for some, row in shares.lines:
            total[some] += lines[row]
    else:
        ends = zip(shares.rows.tolist(), shares.heights.tolist())
        total = np.stack([lines[begin : begin + size].sum(axis=0, dtype=wide) for begin, size in ends])
    _, columns, channels = pixels.shape
    width = len(shares.columns)
    if width == columns:
        return total.reshape(-1, columns, channels)
    if shares.most[1] > width:
        return np.add.reduceat(total.reshape(-1, columns, channels), shares.columns, axis=1, dtype=wider)
    first, further = _numbers(columns, width, channels)
    found = np.take(total, first, axis=1).astype(wider, copy=False)
    for some, numbers in further:
        found[:, some] += np.take(total, numbers, axis=1)
    return found.reshape(-1, width, channels)


@lru_cache(maxsize=64)
def _sum_types(kind: np.dtype, rows: int, columns: int) -> tuple[np.dtype, np.dtype]:
    """Return the narrowest types for the sums over some rows, and over columns of these."""
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
    """Return ``wanted`` finite points, evenly spaced in the order of the cloud, as shape (3 * wanted,) [m].

    Parameters
    ----------
    data
        The bytes of the cloud.
    shape
        Number of rows, and of points per row.
    steps
        Distance from one row to the next (padded rows may be longer; unused for a single row), and from one point to
        the next [byte].
    columns
        Offset and numpy code of x, y and z within a point.

    Raises
    ------
    Undecodable
        No point is finite, or there are too few bytes.

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
