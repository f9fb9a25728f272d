"""Stores of demonstrations: what was converted comes back, mapped, resumed, and as zarr arrays."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from test_images import contract, rows

from benchmarks.bag_making import write_rows
from vdd_ros.commands.cli import main
from vdd_ros.common.errors import BagError, OutputError
from vdd_ros.contract.contract import Contract
from vdd_ros.data.convert import convert
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.frames import Frames
from vdd_ros.data.demonstrations import load_demonstrations
from vdd_ros.data.episode import Episode
from vdd_ros.data.store import StoreWriter, is_store, load_store

_JOINT = '<joint name="{}" type="slide" range="-9 9"/><geom size="0.01" mass="1"/>'
MODEL = (
    f'<mujoco><worldbody><body>{_JOINT.format("a")}<body>{_JOINT.format("b")}<site name="tool_point"/></body></body>'
    '</worldbody></mujoco>'
)


def episode(seed: int, length: int = 5, bound: Contract | None = None) -> Episode:
    bound = contract() if bound is None else bound
    chance = np.random.default_rng(seed)
    size = bound.images[0].image.shape
    images = {
        item.name: Frames([*chance.integers(0, 256, (length, int(np.prod(size))), dtype=np.uint8)], int(np.prod(size)))
        for item in bound.images
    }
    arrays = chance.normal(size=(length, 2)), chance.normal(size=(length, 2))
    return Episode(*arrays, success=bool(seed % 2), labels={'seed': str(seed)}, index=seed, images=images)


def same(one: Episode, other: Episode) -> None:
    np.testing.assert_array_equal(one.observation, other.observation)
    np.testing.assert_array_equal(one.action, other.action)
    assert (one.success, dict(one.labels), one.index) == (other.success, dict(other.labels), other.index)
    for name, frames in one.images.items():
        assert [row.tobytes() for row in frames.rows] == [row.tobytes() for row in other.images[name].rows]


def written(path: Path, *parts: list[Episode], bound: Contract | None = None) -> Path:
    writer = StoreWriter(path, contract() if bound is None else bound)
    for number, part in enumerate(parts):
        writer.add(f'bag {number}', f'{number}', part)
    writer.close()
    return path


def test_episodes_come_back_from_several_chunks(tmp_path):
    """Images of 2.4 MB: a chunk has one of them."""
    bound = contract(height=900, width=900)
    given = [episode(number, 3, bound) for number in range(3)]
    found = load_store(written(tmp_path / 'store', given[:2], given[2:], bound=bound), bound)
    assert len(list((tmp_path / 'store' / 'data' / 'front').glob('*.0.0.0'))) == 9
    for one, other in zip(given, found, strict=True):
        same(one, other)


def test_images_are_mapped_and_not_read(tmp_path):
    (found,) = load_store(written(tmp_path / 'store', [episode(0)]), contract())
    base = found.images['front'].rows[0]
    while base.base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)


def test_a_bag_that_was_interrupted_leaves_the_store_as_it_was(tmp_path):
    path = written(tmp_path / 'store', [episode(0)])

    def broken():
        yield episode(1)
        raise KeyboardInterrupt

    writer = StoreWriter(path, contract())
    with pytest.raises(KeyboardInterrupt):
        writer.add('bag 1', '1', broken())
    writer.close()
    (kept,) = load_store(path, contract())
    same(kept, episode(0))
    writer = StoreWriter(path, contract())
    assert dict(writer.bags) == {'bag 0': '0'}
    writer.add('bag 1', '1', [episode(2), episode(3)])
    writer.close()
    for one, other in zip([episode(0), episode(2), episode(3)], load_store(path, contract()), strict=True):
        same(one, other)


def test_a_store_has_one_contract_and_one_writer(tmp_path):
    path = written(tmp_path / 'store', [episode(0)])
    with pytest.raises(BagError, match='of the contract seeing'):
        load_store(path, contract(color='gray'))
    with pytest.raises(OutputError, match='of the contract seeing'):
        StoreWriter(path, contract(color='gray'))
    first = StoreWriter(path, contract())
    with pytest.raises(OutputError, match='only this process writes'):
        StoreWriter(path, contract())
    first.close()
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'file').touch()
    with pytest.raises(OutputError, match='another folder'):
        StoreWriter(tmp_path / 'other', contract())


def test_arrays_are_described_as_zarr_describes_them(tmp_path):
    path = written(tmp_path / 'store', [episode(0), episode(1, 7)])
    told = json.loads((path / 'data' / 'front' / '.zarray').read_text())
    assert (told['zarr_format'], told['shape'], told['dtype'], told['compressor']) == (2, [12, 6, 8, 3], '|u1', None)
    chunk = np.fromfile(path / 'data' / 'front' / '0.0.0.0', dtype=told['dtype']).reshape(told['chunks'])
    assert chunk[6].tobytes() == episode(1, 7).images['front'].rows[1].tobytes()
    ends = json.loads((path / 'meta' / 'episode_ends' / '.zarray').read_text())
    assert (ends['shape'], ends['dtype']) == ([2], '<i8')
    assert np.fromfile(path / 'meta' / 'episode_ends' / '0', dtype='<i8')[:2].tolist() == [5, 12]


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Return the path of a bag with two cameras."""
    return write_rows(tmp_path / 'bag', rows())


def test_the_command_converts_and_goes_on(bag, tmp_path, capsys):
    (tmp_path / 'model.xml').write_text(MODEL, encoding='utf-8')
    values = contract().model_dump(mode='json')
    bound = Contract.model_validate({**values, 'robot': {**values['robot'], 'model': str(tmp_path / 'model.xml')}})
    file = tmp_path / 'contract.yaml'
    file.write_text(json.dumps(bound.model_dump(mode='json')), encoding='utf-8')
    store = tmp_path / 'store'
    arguments = ['convert', str(bag), '--output', str(store), '--contract', str(file)]
    assert main(arguments) == 0
    assert main(arguments) == 0
    assert '1 bags are in the store already' in capsys.readouterr().out
    assert is_store(store) and not is_store(bag)
    (expected,) = convert(bag, bound, None, ConversionReport())
    (found,) = load_store(store, bound)
    same(found, expected)


def test_demonstrations_are_loaded_from_a_store_as_from_a_bag(tmp_path):
    given = [episode(number) for number in range(1, 20)]
    store = written(tmp_path / 'store', given[:10], given[10:])
    found = load_demonstrations([store], contract(), held_out=0.2)
    assert found.record.episodes == sum(bool(item.success) for item in given)
    assert found.report.dropped('episode') == sum(not item.success for item in given)
