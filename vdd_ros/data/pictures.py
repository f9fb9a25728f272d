"""From images and point clouds, as they come over the wire, to the few numbers that a contract asks for."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from vdd_ros.data.serialized import Undecodable
from vdd_ros.features import Image

# numpy code, channels, the places of red, green and blue
_ENCODINGS = {
    'rgb8': ('u1', 3, (0, 1, 2)),
    'bgr8': ('u1', 3, (2, 1, 0)),
    'rgba8': ('u1', 4, (0, 1, 2)),
    'bgra8': ('u1', 4, (2, 1, 0)),
    '8UC3': ('u1', 3, (2, 1, 0)),
    'mono8': ('u1', 1, ()),
    '8UC1': ('u1', 1, ()),
    'mono16': ('u2', 1, ()),
    '16UC1': ('u2', 1, ()),
    '32FC1': ('f4', 1, ()),
}
_LUMA = np.array([299, 587, 114])
_MILLIMETER = 1e-3


def raw_image(
    data: np.ndarray, height: int, width: int, step: int, encoding: str, big_endian: bool, wanted: Image
) -> np.ndarray:
    """Shrink the bytes of a sensor_msgs/Image to shape (``wanted.size``,).

    Raises
    ------
    Undecodable
        The encoding is not known, does not give what is wanted, or the bytes do not make such an image.

    """
    if encoding not in _ENCODINGS:
        raise Undecodable(f'encoding {encoding!r}; known are {", ".join(_ENCODINGS)}')
    code, channels, colors = _ENCODINGS[encoding]
    kind = np.dtype(f'{">" if big_endian else "<"}{code}')
    row = width * channels * kind.itemsize
    if not height or not width or step < row or len(data) < (height - 1) * step + row:
        raise Undecodable(f'{len(data)} bytes for {height} rows of {step} bytes, {width} pixels of {encoding}')
    rows = np.lib.stride_tricks.as_strided(data, (height, row), (step, 1))
    pixels = np.ascontiguousarray(rows).view(kind).reshape(height, width, channels)
    return _shrunk(pixels[..., list(colors)] if colors else pixels, wanted)


def compressed_image(data: bytes, form: str, wanted: Image) -> np.ndarray:
    """Shrink the bytes of a sensor_msgs/CompressedImage (JPEG, PNG, or compressedDepth) to shape (``wanted.size``,).

    Raises
    ------
    Undecodable
        They are no such picture.

    """
    depth = 'compressedDepth' in form
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('error', Pillow.DecompressionBombWarning)
            picture = Pillow.open(io.BytesIO(data[12:] if depth else data), formats=('JPEG', 'PNG'))
            if picture.mode not in ('L', 'I;16', 'I;16B', 'I'):
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


def _shrunk(pixels: np.ndarray, wanted: Image) -> np.ndarray:
    """Average pixels of shape (row, column, channel) over equal shares of the picture."""
    if wanted.color == 'depth':
        if pixels.shape[2] != 1 or pixels.dtype == np.uint8:
            raise Undecodable('no depth in a picture of colours')
        depth = pixels.astype(np.float64) * (_MILLIMETER if pixels.dtype.kind == 'u' else 1.0)
        known = np.isfinite(depth) & (depth > 0)
        total = _summed(np.where(known, depth, 0.0), wanted)
        count = _summed(known.astype(np.float64), wanted)
        return (total / np.maximum(count, 1.0)).ravel()
    if pixels.dtype.kind == 'f':
        raise Undecodable('no colours in a picture of depth')
    full = 255 if pixels.dtype == np.uint8 else 65535
    values = pixels.astype(np.int64)
    if wanted.color == 'gray' and values.shape[2] == 3:
        values, full = (values * _LUMA).sum(axis=2, keepdims=True), full * 1000
    elif wanted.color == 'rgb' and values.shape[2] == 1:
        values = np.repeat(values, 3, axis=2)
    count = _summed(np.ones((*values.shape[:2], 1), dtype=np.int64), wanted)
    return (_summed(values, wanted) / (count * full)).ravel()


def _summed(pixels: np.ndarray, wanted: Image) -> np.ndarray:
    rows = np.arange(wanted.height) * pixels.shape[0] // wanted.height
    columns = np.arange(wanted.width) * pixels.shape[1] // wanted.width
    return np.add.reduceat(np.add.reduceat(pixels, rows, axis=0), columns, axis=1)


def cloud(data: np.ndarray, count: int, step: int, columns: tuple[tuple[int, str], ...], wanted: int) -> np.ndarray:
    """Return ``wanted`` finite points of a cloud, evenly spread over it, as shape (3 * wanted,) [m].

    Parameters
    ----------
    data
        The bytes of the points, ``step`` for each of ``count``.
    columns
        Where x, y and z are within a point: offset and numpy code.

    Raises
    ------
    Undecodable
        No point is finite, or the bytes are too few.

    """
    if count * step > len(data) or any(offset + np.dtype(code).itemsize > step for offset, code in columns):
        raise Undecodable(f'{len(data)} bytes for {count} points of {step} bytes')
    rows = data[: count * step].reshape(count, step)
    points = np.concatenate(
        [
            np.ascontiguousarray(rows[:, offset : offset + np.dtype(code).itemsize]).view(code).astype(np.float64)
            for offset, code in columns
        ],
        axis=1,
    )
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        raise Undecodable('a cloud without a finite point')
    return points[np.arange(wanted) * len(points) // wanted].ravel()
