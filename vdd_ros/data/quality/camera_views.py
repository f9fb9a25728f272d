"""Images of recorded demonstrations: contact sheets, frames for videos, and a comparison with live images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vdd_ros.contract.contract import Contract, TopicFeature
from vdd_ros.data.episode import Episode
from vdd_ros.data.quality.findings import Finding

_GAP = 2
_TILE = 96
"""Minimum height of an image in a sheet or a video [pixels]; smaller images are enlarged by integer factors."""
_DEEP = 5000.0
"""Depth that is displayed as white [mm]."""
_CELLS = 16
"""Maximum number of rows and columns of the coarse image by which the framing is compared."""
_SHIFT = 0.3
"""Maximum shift that is searched for, as a share of the image."""
_DARK, _FLAT = 0.05, 0.02
"""Brightness and contrast below which a lens is considered covered."""
_LIGHT = 0.12
"""Distance of the brightness from the range in training above which a warning is issued."""
_BLURRED, _SHARP = 0.6, 1.7
"""Factors on the lowest and highest sharpness in training beyond which a warning is issued."""
_ALIKE = 0.25
"""Maximum amount by which the agreement of live images may be lower than that of the least similar demonstration."""
_MOST_IMAGES = 400
"""Maximum number of images of a camera that describe the training images."""


def contact_sheets(
    episodes: Sequence[Episode], contract: Contract, *, demonstrations: int = 6, moments: int = 8
) -> dict[str, np.ndarray]:
    """Arrange images of several demonstrations over time, for each camera of a contract.

    Parameters
    ----------
    episodes, contract
        The demonstrations and their contract. The shown demonstrations are evenly spaced over all of them.
    demonstrations, moments
        Maximum number of demonstrations (rows), and number of times (columns), evenly spaced over a demonstration.

    Returns
    -------
    dict
        Sheets by camera, shape (row, column, 3), uint8. Empty without images or episodes.

    """
    places = np.unique(np.linspace(0, len(episodes) - 1, min(demonstrations, len(episodes))).round().astype(int))
    sheets = {}
    for item in contract.images if len(episodes) else ():
        rows = []
        for place in places.tolist():
            episode = episodes[place]
            ticks = np.linspace(0, len(episode) - 1, moments).round().astype(int).tolist()
            rows.append(_joined([_tile(item, episode.images[item.name].rows[tick]) for tick in ticks], axis=1))
        sheets[item.name] = _joined(rows, axis=0)
    return sheets


def film_frames(episode: Episode, contract: Contract) -> Iterator[np.ndarray]:
    """Yield the images of all cameras side by side for every tick, shape (row, column, 3), uint8, with even sides."""
    for tick in range(len(episode)):
        tiles = [_tile(item, episode.images[item.name].rows[tick]) for item in contract.images]
        high = max(tile.shape[0] for tile in tiles)
        filled = [np.pad(tile, ((0, high - tile.shape[0]), (0, 0), (0, 0))) for tile in tiles]
        frame = _joined(filled, axis=1)
        yield np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)))


def _tile(item: TopicFeature, pixels: np.ndarray) -> np.ndarray:
    """Return an image as colours, shape (row, column, 3), at a size at which a person recognises it."""
    image = pixels.reshape(item.image.shape)
    if item.image.color == 'depth':
        image = np.clip(image * (255 / _DEEP), 0, 255).astype(np.uint8)
    factor = max(1, -(-_TILE // item.image.height))
    return np.broadcast_to(image, (*image.shape[:2], 3)).repeat(factor, axis=0).repeat(factor, axis=1)


def _joined(parts: Sequence[np.ndarray], axis: int) -> np.ndarray:
    width = [(0, 0)] * 3
    width[axis] = (0, _GAP)
    padded = [np.pad(part, width, constant_values=255) for part in parts[:-1]]
    return np.concatenate([*padded, parts[-1]], axis=axis)


@dataclass(frozen=True)
class CameraView:
    """Brightness, contrast, sharpness and mean arrangement of images of one camera."""

    brightness: np.ndarray
    """Mean of each image as a share of white, shape (image,)."""
    contrast: np.ndarray
    """Standard deviation of each image as a share of white, shape (image,)."""
    sharpness: np.ndarray
    """Size of the second differences relative to the contrast, shape (image,); lower for blurred images."""
    arrangement: np.ndarray
    """Mean image in coarse cells, shape (row, column), with zero mean and unit norm."""

    @classmethod
    def of(cls, item: TopicFeature, images: Sequence[np.ndarray]) -> CameraView:
        """Compute the statistics for images of a feature; each image is an array of `TopicFeature.size` values."""
        white = _DEEP if item.image.color == 'depth' else 255.0
        gray = np.stack([image.reshape(item.image.shape).mean(axis=2) / white for image in images])
        contrast = gray.std(axis=(1, 2))
        middle, around = gray[:, 1:-1, 1:-1], gray[:, :-2, 1:-1] + gray[:, 2:, 1:-1]
        second = 4 * middle - around - gray[:, 1:-1, :-2] - gray[:, 1:-1, 2:]
        size = second.std(axis=(1, 2)) if middle.size else np.zeros(len(gray))
        sharpness = size / np.maximum(contrast, 1e-3)
        return cls(gray.mean(axis=(1, 2)), contrast, sharpness, _unit(_cells(gray.mean(axis=0))))


def _cells(gray: np.ndarray) -> np.ndarray:
    """Return means over at most `_CELLS` equal parts along both axes."""
    for axis in (0, 1):
        count = min(_CELLS, gray.shape[axis])
        edges = np.linspace(0, gray.shape[axis], count + 1).round().astype(int)[:-1]
        counts = np.diff([*edges, gray.shape[axis]])
        gray = np.add.reduceat(gray, edges, axis=axis) / np.expand_dims(counts, 1 - axis)
    return gray


def _unit(values: np.ndarray) -> np.ndarray:
    away = values - values.mean()
    return away / max(float(np.linalg.norm(away)), 1e-9)


@dataclass(frozen=True)
class TrainingView:
    """Statistics of the images of one camera in the demonstrations, with which live images are compared."""

    item: TopicFeature
    view: CameraView
    agreement: float
    """Lowest agreement of a demonstration's `arrangement` with that of all demonstrations."""

    def compare(self, images: Sequence[np.ndarray]) -> tuple[Finding, ...]:
        """Compare images of the camera with those of training.

        Parameters
        ----------
        images
            Arrays of `TopicFeature.size` values; may be empty.

        Returns
        -------
        tuple of Finding
            The differences, or a note that there are none. Level `fault`: no image, or a covered lens.

        """
        name = self.item.name
        if not len(images):
            remedy = f'start the driver, and check that it publishes {self.item.topic}'
            return (Finding('fault', name, f'no image of {self.item.topic}', remedy),)
        live = CameraView.of(self.item, images)
        light, contrast = (float(np.median(values)) for values in (live.brightness, live.contrast))
        if light < _DARK and contrast < _FLAT:
            return (
                Finding('fault', name, f'dark and even (brightness {light:.2f})', 'uncover the lens, turn on light'),
            )
        found = tuple(finding for finding in (self._light(live), self._focus(live), self._framing(live)) if finding)
        if found:
            return found
        low, high = _range(self.view.brightness)
        text = f'as in training: brightness {light:.2f} ({low:.2f} to {high:.2f}), sharpness and framing'
        return (Finding('note', name, text),)

    def _light(self, live: CameraView) -> Finding | None:
        value, (low, high) = float(np.median(live.brightness)), _range(self.view.brightness)
        if low - _LIGHT <= value <= high + _LIGHT:
            return None
        text = (
            f'{"darker" if value < low else "brighter"} than training: brightness {value:.2f} ({low:.2f} to {high:.2f})'
        )
        return Finding('warning', self.item.name, text, 'restore light, exposure and gain, and lock the latter two')

    def _focus(self, live: CameraView) -> Finding | None:
        value, (low, high) = float(np.median(live.sharpness)), _range(self.view.sharpness)
        if _BLURRED * low <= value <= _SHARP * high:
            return None
        blurred = value < low
        text = f'{"blurred" if blurred else "sharper or noisier"} than training: '
        text += f'sharpness {value:.2f} ({low:.2f} to {high:.2f})'
        remedy = 'clean and focus the lens' if blurred else 'check gain, focus, resolution and compression'
        return Finding('warning', self.item.name, text, remedy)

    def _framing(self, live: CameraView) -> Finding | None:
        agreement = float((live.arrangement * self.view.arrangement).sum())
        if agreement >= self.agreement - _ALIKE:
            return None
        down, right, best = _best_shift(self.view.arrangement, live.arrangement)
        text = f'another framing: agreement {agreement:.2f} (training at least {self.agreement:.2f})'
        if (down or right) and best > agreement + _ALIKE:
            moved = [f'{abs(down):.0%} {"down" if down > 0 else "up"}'] if down else []
            moved += [f'{abs(right):.0%} to the {"right" if right > 0 else "left"}'] if right else []
            text += f'; the scene appears {" and ".join(moved)}'
        return Finding('warning', self.item.name, text, 'mount the camera as for the recording, or record anew')


def _range(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, (0.02, 0.98))
    return float(low), float(high)


def _best_shift(training: np.ndarray, live: np.ndarray) -> tuple[float, float, float]:
    """Return by which shares of the image, down and to the right, a live arrangement agrees best, and how well then."""
    best = (0.0, 0.0, -1.0)
    rows, columns = training.shape
    for down in range(-int(_SHIFT * rows), int(_SHIFT * rows) + 1):
        for right in range(-int(_SHIFT * columns), int(_SHIFT * columns) + 1):
            one = training[max(0, -down) : rows - max(0, down), max(0, -right) : columns - max(0, right)]
            other = live[max(0, down) : rows + min(0, down), max(0, right) : columns + min(0, right)]
            value = float((_unit(one) * _unit(other)).sum())
            if value > best[2]:
                best = (down / rows, right / columns, value)
    return best


def training_views(episodes: Sequence[Episode], contract: Contract) -> dict[str, TrainingView]:
    """Compute statistics of the images of demonstrations by camera, from at most `_MOST_IMAGES` images of each."""
    found = {}
    each = max(2, _MOST_IMAGES // max(len(episodes), 1))
    for item in contract.images:
        parts = []
        for episode in episodes:
            ticks = np.unique(np.linspace(0, len(episode) - 1, each).round().astype(int)).tolist()
            parts.append([episode.images[item.name].rows[tick] for tick in ticks])
        whole = CameraView.of(item, [image for part in parts for image in part])
        agreements = [float((CameraView.of(item, part).arrangement * whole.arrangement).sum()) for part in parts]
        found[item.name] = TrainingView(item, whole, min(agreements))
    return found


def compare(training: Mapping[str, TrainingView], live: Mapping[str, Sequence[np.ndarray]]) -> tuple[Finding, ...]:
    """Compare live images with training images, by camera; see `TrainingView.compare`."""
    return tuple(finding for name, view in training.items() for finding in view.compare(live.get(name, ())))
