"""Images of recorded demonstrations: contact sheets, films, and what differs from them in other images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageFilter

from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.data.decode.frames import Frames
from vdd_ros.data.episode import Episode
from vdd_ros.data.quality.camera_views import contact_sheets, film_frames, training_views

HIGH, WIDE = 48, 64
LENGTH = 12


def contract() -> Contract:
    """One camera of colours and one of depth."""
    size = {'height': HIGH, 'width': WIDE}
    seen = [
        {'name': 'front', 'topic': 'front/image_raw', 'type': 'Image', 'image': {**size, 'color': 'rgb'}},
        {'name': 'depth', 'topic': 'depth/image_raw', 'type': 'Image', 'image': {**size, 'color': 'depth'}},
    ]
    measured = {'name': 'measured', 'source': 'measured', 'space': 'joint'}
    values = load_contract('avoiding_joint').model_dump(mode='json')
    return Contract.model_validate({**values, 'schema_version': 3, 'name': 'seen', 'observation': [measured, *seen]})


def scene(arm: int, seed: int = 0, right: int = 0) -> np.ndarray:
    """Return a textured table with two bins and an arm at a column, moved to the right, shape (row, column, 3)."""
    chance = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:HIGH, 0 : WIDE + 40]
    gray = 90 + 25 * ((rows // 4 + columns // 4) % 2)
    gray[8:20, 28:44], gray[26:40, 58:74] = 200, 20
    found = np.stack([gray, gray - 10, gray - 20], axis=2)[:, 20 - right : 20 - right + WIDE].copy()
    found[:20, arm : arm + 6] = 150, 60, 60
    return np.clip(found + chance.normal(scale=3, size=found.shape), 0, 255).astype(np.uint8)


def episodes(count: int = 8) -> list[Episode]:
    """Demonstrations in which the arm passes the image."""
    found = []
    for number in range(count):
        rows = [scene(4 * tick, seed=LENGTH * number + tick).ravel() for tick in range(LENGTH)]
        deep = [np.full(HIGH * WIDE, 500 * (tick + 1), dtype=np.int16) for tick in range(LENGTH)]
        images = {'front': Frames(rows, 3 * HIGH * WIDE), 'depth': Frames(deep, HIGH * WIDE)}
        found.append(Episode(np.zeros((LENGTH, 7)), np.zeros((LENGTH, 7)), images=images))
    return found


def test_a_sheet_has_a_row_of_moments_for_each_of_some_demonstrations():
    shown = episodes()
    sheets = contact_sheets(shown, contract(), demonstrations=3, moments=4)
    assert list(sheets) == ['front', 'depth']
    sheet = sheets['front']
    # Doubled to 96 rows, with two white pixels between images.
    assert sheet.shape == (3 * 96 + 4, 4 * 128 + 6, 3) and sheet.dtype == np.uint8
    assert (sheet[96:98] == 255).all() and (sheet[:, 128:130] == 255).all()
    for row, number in enumerate((0, 4, 7)):
        for column, tick in enumerate((0, 4, 7, 11)):
            tile = sheet[98 * row : 98 * row + 96 : 2, 130 * column : 130 * column + 128 : 2]
            expected = shown[number].images['front'].rows[tick].reshape(HIGH, WIDE, 3)
            np.testing.assert_array_equal(tile, expected)
    assert sheets['depth'][0, ::130, 0].tolist() == [25, 127, 204, 255]


def test_without_images_or_episodes_there_is_no_sheet():
    assert contact_sheets([], contract()) == {}
    assert contact_sheets(episodes(1), load_contract('avoiding_joint')) == {}


def test_a_film_has_all_cameras_side_by_side():
    frames = list(film_frames(episodes(1)[0], contract()))
    assert len(frames) == LENGTH and {frame.shape for frame in frames} == {(96, 258, 3)}
    np.testing.assert_array_equal(frames[3][::2, :128:2], scene(12, seed=3))
    assert (frames[0][:, 130:] == 25).all()


def blurred(image: np.ndarray) -> np.ndarray:
    return np.array(Pillow.fromarray(image).filter(ImageFilter.GaussianBlur(1.5)))


CHANGES = {
    'the same': (lambda image: image, 'note', 'as in training'),
    'half the light': (lambda image: (image * 0.5).astype(np.uint8), 'warning', 'darker than training'),
    'more light': (lambda image: np.minimum(image * 1.6, 255).astype(np.uint8), 'warning', 'brighter than training'),
    'out of focus': (blurred, 'warning', 'blurred than training'),
    'covered': (np.zeros_like, 'fault', 'dark and even'),
    'upside down': (lambda image: image[::-1], 'warning', 'another framing'),
}


@pytest.mark.parametrize('change', CHANGES)
def test_what_differs_from_training_is_named_with_a_remedy(change):
    view = training_views(episodes(), contract())['front']
    make, level, text = CHANGES[change]
    found = view.compare([np.ascontiguousarray(make(scene(4 * tick, seed=900 + tick))).ravel() for tick in range(12)])
    assert [finding.level for finding in found] == [level], found
    assert found[0].about == 'front' and text in found[0].text
    assert bool(found[0].remedy) == (level != 'note')


def test_a_camera_that_was_turned_is_told_how_the_scene_moved():
    view = training_views(episodes(), contract())['front']
    (found,) = view.compare([scene(4 * tick, seed=900 + tick, right=12).ravel() for tick in range(12)])
    assert found.level == 'warning' and 'the scene appears 19% to the right' in found.text


def test_a_silent_camera_is_a_fault_that_names_its_topic():
    (found,) = training_views(episodes(), contract())['front'].compare([])
    assert found.level == 'fault' and 'front/image_raw' in found.text
