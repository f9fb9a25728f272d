"""LeRobot datasets, version 3: what is written is what its readers expect, and comes back as it was."""

from __future__ import annotations

import json
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vdd_ros.commands.cli import main
from vdd_ros.common.errors import BagError, OutputError, TrainingError
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.data.convert import convert
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.frames import Frames
from vdd_ros.data.episode import Episode
from vdd_ros.data.lerobot import lerobot_tables as tables
from vdd_ros.data.lerobot.lerobot import columns_of, export_episodes
from vdd_ros.data.lerobot.lerobot_dataset import Dataset
from vdd_ros.data.lerobot.lerobot_import import import_dataset
from vdd_ros.data.lerobot.lerobot_tables import FileLimits

JOINTS = ['a', 'b']
CAMERA = {
    'topic': 'front/image_raw',
    'type': 'sensor_msgs/msg/Image',
    'image': {'height': 3, 'width': 4, 'color': 'rgb'},
}


@pytest.fixture
def contract() -> Contract:
    """Two joints, a picture between them and a force, and absolute commands at 20 Hz."""
    force = {'name': 'force', 'topic': 'force', 'type': 'Float64', 'stamp': 'receive'}
    return Contract.model_validate(
        {
            'schema_version': 2,
            'name': 'two_joints',
            'robot': {'model': 'panda', 'tool': 'tool_point', 'joints': JOINTS},
            'policy_rate': 20.0,
            'observation': [
                {'name': 'measured', 'source': 'measured', 'space': 'joint'},
                {'name': 'front', **CAMERA},
                force,
            ],
            'action': {'name': 'target', 'source': 'commanded', 'space': 'joint'},
            'action_mode': 'absolute',
        }
    )


def demonstrations(count: int = 3) -> list[Episode]:
    """Return demonstrations of different lengths, tasks and outcomes."""
    chance = np.random.default_rng(0)
    found = []
    for index in range(count):
        length = 7 + index
        pixels = np.round(255 * chance.uniform(size=(length, 36))) / 255
        numbers = chance.normal(size=(length, 3))
        observation = np.concatenate([numbers[:, :2], pixels, numbers[:, 2:]], axis=1)
        labels = {'language': f'task {index % 2}', 'operator': 'Ada'}
        found.append(Episode(observation, chance.normal(size=(length, 2)), (True, False, None)[index % 3], labels))
    return found


def test_the_layout_is_that_of_version_3(contract, tmp_path):
    episodes = demonstrations()
    assert export_episodes(episodes, contract, tmp_path / 'set') == 3
    files = {str(path.relative_to(tmp_path / 'set')) for path in (tmp_path / 'set').rglob('*') if path.is_file()}
    assert files == {
        'meta/info.json', 'meta/stats.json', 'meta/tasks.parquet', 'meta/vdd_contract.json',
        'meta/episodes/chunk-000/file-000.parquet', 'data/chunk-000/file-000.parquet',
    }  # fmt: skip
    info = json.loads((tmp_path / 'set' / 'meta' / 'info.json').read_text())
    features = info.pop('features')
    assert info == {
        'codebase_version': 'v3.0', 'robot_type': 'panda', 'total_episodes': 3, 'total_frames': 24, 'total_tasks': 2,
        'chunks_size': 1000, 'data_files_size_in_mb': 100, 'video_files_size_in_mb': 200, 'fps': 20,
        'splits': {'train': '0:3'}, 'data_path': 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet',
        'video_path': None,
    }  # fmt: skip
    state = {'dtype': 'float32', 'shape': [3], 'names': ['measured a', 'measured b', 'force']}
    assert features['observation.state'] == state
    assert features['action'] == {'dtype': 'float32', 'shape': [2], 'names': JOINTS}
    picture = {'dtype': 'image', 'shape': [3, 4, 3], 'names': ['height', 'width', 'channels']}
    assert features['observation.images.front'] == picture
    assert features['timestamp'] == {'dtype': 'float32', 'shape': [1], 'names': None}
    for name in ('frame_index', 'episode_index', 'index', 'task_index'):
        assert features[name] == {'dtype': 'int64', 'shape': [1], 'names': None}


def test_frames_have_the_types_and_indices_that_readers_expect(contract, tmp_path):
    episodes = demonstrations()
    export_episodes(episodes, contract, tmp_path / 'set')
    file = pq.ParquetFile(tmp_path / 'set' / 'data' / 'chunk-000' / 'file-000.parquet')
    assert file.num_row_groups == 3  # one for each episode
    table = file.read()
    schema = table.schema
    assert schema.field('observation.state').type == pa.list_(pa.float32(), 3)
    assert schema.field('action').type == pa.list_(pa.float32(), 2)
    assert schema.field('observation.images.front').type == pa.struct({'bytes': pa.binary(), 'path': pa.string()})
    assert schema.field('timestamp').type == pa.float32() and schema.field('index').type == pa.int64()
    stored = json.loads(schema.metadata[b'huggingface'])['info']['features']
    assert stored['observation.images.front'] == {'_type': 'Image'} and set(stored) == set(schema.names)
    assert table['index'].to_pylist() == list(range(24))
    assert table['episode_index'].to_pylist() == [0] * 7 + [1] * 8 + [2] * 9
    assert table['frame_index'].to_pylist() == [*range(7), *range(8), *range(9)]
    np.testing.assert_allclose(table['timestamp'].to_numpy(), [n / 20 for count in (7, 8, 9) for n in range(count)])
    assert table['task_index'].to_pylist() == [0] * 7 + [1] * 8 + [0] * 9
    action = np.array(table['action'].to_pylist(), dtype=np.float32)
    np.testing.assert_array_equal(action, np.concatenate([item.action for item in episodes]).astype(np.float32))


def test_tasks_are_a_pandas_frame_with_the_words_as_its_index(contract, tmp_path):
    export_episodes(demonstrations(), contract, tmp_path / 'set')
    table = pq.read_table(tmp_path / 'set' / 'meta' / 'tasks.parquet')
    assert table.to_pylist() == [{'task_index': 0, 'task': 'task 0'}, {'task_index': 1, 'task': 'task 1'}]
    pandas = json.loads(table.schema.metadata[b'pandas'])
    assert pandas['index_columns'] == ['task']
    assert [item['name'] for item in pandas['columns']] == ['task_index', 'task']


def test_every_episode_has_its_place_and_its_values(contract, tmp_path):
    episodes = demonstrations()
    export_episodes(episodes, contract, tmp_path / 'set')
    rows = pq.read_table(tmp_path / 'set' / 'meta' / 'episodes' / 'chunk-000' / 'file-000.parquet').to_pylist()
    assert [(row['dataset_from_index'], row['dataset_to_index'], row['length']) for row in rows] == [
        (0, 7, 7), (7, 15, 8), (15, 24, 9)
    ]  # fmt: skip
    assert [row['tasks'] for row in rows] == [['task 0'], ['task 1'], ['task 0']]
    assert [row['outcome'] for row in rows] == ['success', 'failure', '']
    assert {row['data/chunk_index'] for row in rows} == {row['data/file_index'] for row in rows} == {0}
    found = rows[1]
    np.testing.assert_allclose(found['stats/action/mean'], episodes[1].action.mean(axis=0))
    np.testing.assert_allclose(found['stats/action/q90'], np.quantile(episodes[1].action, 0.9, axis=0))
    assert found['stats/action/count'] == [8]
    pixels = episodes[1].observation[:, 2:38].reshape(-1, 3)
    np.testing.assert_allclose(np.array(found['stats/observation.images.front/max']).shape, (3, 1, 1))
    np.testing.assert_allclose(np.ravel(found['stats/observation.images.front/mean']), pixels.mean(axis=0))


def test_statistics_of_all_are_those_of_the_joined_numbers(contract, tmp_path):
    episodes = demonstrations()
    export_episodes(episodes, contract, tmp_path / 'set')
    stats = json.loads((tmp_path / 'set' / 'meta' / 'stats.json').read_text())
    joined = np.concatenate([item.action for item in episodes])
    for name, value in {
        'min': joined.min(0),
        'max': joined.max(0),
        'mean': joined.mean(0),
        'std': joined.std(0),
    }.items():
        np.testing.assert_allclose(stats['action'][name], value)
    assert stats['action']['count'] == [24] and len(stats['action']['q01']) == 2
    assert set(stats) == {column.key for column in columns_of(contract)}


def test_a_large_dataset_is_split_into_files_and_comes_back_whole(contract, tmp_path):
    limits = FileLimits(data_megabytes=1e-6, files_in_chunk=2)
    export_episodes(demonstrations(), contract, tmp_path / 'set', limits=limits)
    files = sorted(
        str(path.relative_to(tmp_path / 'set' / 'data')) for path in (tmp_path / 'set' / 'data').rglob('*.*')
    )
    assert files == ['chunk-000/file-000.parquet', 'chunk-000/file-001.parquet', 'chunk-001/file-000.parquet']
    assert import_dataset(tmp_path / 'set', tmp_path / 'back').frames == 24
    with pytest.raises(OutputError, match='data_megabytes above 0; found 0'):
        FileLimits(data_megabytes=0)


def test_numbers_images_words_and_outcomes_come_back(contract, tmp_path):
    episodes = demonstrations()
    export_episodes(episodes, contract, tmp_path / 'set')
    found = import_dataset(tmp_path / 'set', tmp_path / 'back')
    report = ConversionReport()
    back = list(convert(found.bag, load_contract(found.contract), None, report))
    assert not report.entries and (found.episodes, found.frames) == (3, 24)
    for before, after in zip(episodes, back):
        np.testing.assert_array_equal(after.action, before.action.astype(np.float32))
        numbers = before.observation[:, [0, 1, 38]].astype(np.float32)
        np.testing.assert_array_equal(after.observation, numbers)
        pixels = np.rint(255 * before.observation[:, 2:38])
        np.testing.assert_array_equal(np.stack(after.images['front'].rows), pixels)
        assert after.success == before.success
        assert dict(before.labels).items() <= dict(after.labels).items()


def test_images_beside_the_vector_arrive_and_depth_in_metres(contract, tmp_path):
    values = contract.model_dump(mode='json') | {'schema_version': 3}
    depth = {'name': 'far', 'topic': 'far', 'type': 'Image', 'image': {'height': 2, 'width': 2, 'color': 'depth'}}
    contract = Contract.model_validate(values | {'observation': [*values['observation'], depth]})
    chance = np.random.default_rng(0)
    colours = chance.integers(0, 256, (5, 36), dtype=np.uint8)
    far = chance.integers(0, 3000, (5, 4)).astype(np.int16)
    images = {'front': Frames(list(colours), 36), 'far': Frames(list(far), 4)}
    export_episodes([Episode(np.ones((5, 3)), np.ones((5, 2)), images=images)], contract, tmp_path / 'set')
    found = Dataset(tmp_path / 'set')
    (episode,) = found.episodes()
    np.testing.assert_array_equal(np.stack(list(episode.pictures['observation.images.front'])).reshape(5, -1), colours)
    np.testing.assert_allclose(episode.numbers['observation.far'], far / 1000, atol=1e-6)
    assert not found.report.entries
    assert set(json.loads((tmp_path / 'set/meta/stats.json').read_text())) == {
        *('observation.state', 'observation.images.front', 'observation.far', 'action')
    }


def test_a_dataset_is_written_whole_or_not_at_all(contract, tmp_path):
    def broken():
        yield demonstrations()[0]
        raise BagError(expected='more', found='less', remedy='none')

    with pytest.raises(BagError, match='expected more'):
        export_episodes(broken(), contract, tmp_path / 'set')
    with pytest.raises(TrainingError, match='at least one episode'):
        export_episodes([], contract, tmp_path / 'set')
    assert not list(tmp_path.iterdir())
    (tmp_path / 'set').mkdir()
    with pytest.raises(OutputError, match='a free place'):
        export_episodes(demonstrations(), contract, tmp_path / 'set')


def foreign(path: Path, *, names: object = None, version: str = 'v3.0', drop: int = 0) -> Path:
    """Write a dataset as others do: six joints, a film of one camera, two episodes of ten and twelve frames."""
    lengths, size = (10, 12), 6
    feature = {'dtype': 'float32', 'shape': [size], 'names': names}
    features = {'observation.state': feature, 'action': feature}
    features |= {'observation.images.top': {'dtype': 'video', 'shape': [16, 32, 3], 'names': None}}
    features |= {'timestamp': {'dtype': 'float32', 'shape': [1], 'names': None}}
    info = {
        'codebase_version': version,
        'fps': 10,
        'features': features,
        'total_episodes': 2,
        'data_path': tables.DATA_PATH,
        'video_path': 'videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4',
    }
    for folder in ('meta/episodes/chunk-000', 'data/chunk-000', 'videos/observation.images.top/chunk-000'):
        (path / folder).mkdir(parents=True)
    (path / 'meta' / 'info.json').write_text(json.dumps(info))
    frames = np.arange(sum(lengths))
    state = frames[:, None] + np.arange(size) / 8
    columns = {'observation.state': state.tolist(), 'action': (state + 1).tolist(), 'timestamp': (frames / 10).tolist()}
    episode = np.repeat([0, 1], lengths)
    table = pa.table({**columns, 'episode_index': episode})
    pq.write_table(table.slice(0, len(frames) - drop), path / 'data' / 'chunk-000' / 'file-000.parquet')
    film = 'videos/observation.images.top'
    rows = [
        {
            'episode_index': number, 'tasks': [f'do {number}'], 'length': length, 'data/chunk_index': 0,
            'data/file_index': 0, f'{film}/chunk_index': 0, f'{film}/file_index': 0,
        }
        for number, length in enumerate(lengths)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), path / 'meta' / 'episodes' / 'chunk-000' / 'file-000.parquet')
    target = str(path / film / 'chunk-000' / 'file-000.mp4')
    writer = imageio_ffmpeg.write_frames(target, (32, 16), fps=10, codec='mpeg4', quality=9, macro_block_size=1)
    writer.send(None)
    for frame in frames:
        writer.send(np.full((16, 32, 3), 10 * frame, dtype=np.uint8).tobytes())
    writer.close()
    return path


def test_a_dataset_of_others_becomes_a_bag_to_train_on_videos_included(tmp_path):
    names = {'motors': ['pan.pos', 'lift.pos', 'elbow.pos', 'flex.pos', 'roll.pos', 'gripper.pos']}
    found = import_dataset(foreign(tmp_path / 'set', names=names), tmp_path / 'bag')
    contract = load_contract(found.contract)
    assert contract.robot.joints == ('pan', 'lift', 'elbow', 'flex', 'roll', 'gripper')
    report = ConversionReport()
    first, second = convert(found.bag, contract, None, report)
    assert not report.entries
    assert (len(first), len(second), second.labels['language']) == (10, 12, 'do 1')
    np.testing.assert_array_equal(second.observation, np.arange(10, 22)[:, None] + np.arange(6) / 8)
    np.testing.assert_array_equal(second.action, second.observation + 1)
    brightness = np.stack(second.images['top'].rows).mean(axis=1)
    np.testing.assert_allclose(brightness, 10 * np.arange(10, 22), atol=3)


def test_names_that_are_none_or_few_are_made_up(tmp_path):
    found = import_dataset(foreign(tmp_path / 'set', names=['x', 'y']), tmp_path / 'bag')
    assert load_contract(found.contract).robot.joints == tuple(f'action_{place}' for place in range(6))


def test_the_stand_in_for_a_robot_is_a_model_with_such_joints(tmp_path):
    from vdd_ros.robot.kinematics import Kinematics

    found = import_dataset(foreign(tmp_path / 'set'), tmp_path / 'bag')
    kinematics = Kinematics.from_contract(load_contract(found.contract))
    assert (kinematics.lower < 1).all() and (kinematics.upper > 21).all()


@pytest.mark.parametrize(
    ('change', 'reported'),
    [
        (
            lambda path: (path / 'meta' / 'info.json').unlink(),
            'a LeRobot dataset at .*; found no readable meta/info.json',
        ),
        (lambda path: (path / 'meta' / 'info.json').write_text('{'), 'found no readable meta/info.json'),
        (lambda path: (path / 'data' / 'chunk-000' / 'file-000.parquet').unlink(), 'copy the complete dataset again'),
        (
            lambda path: (path / 'data' / 'chunk-000' / 'file-000.parquet').write_bytes(b'x'),
            'copy the complete dataset again',
        ),
        (lambda path: (path / 'meta' / 'episodes' / 'chunk-000' / 'file-000.parquet').unlink(), 'tables in'),
    ],
)
def test_a_damaged_dataset_is_refused_with_what_to_do(tmp_path, change, reported):
    path = foreign(tmp_path / 'set')
    change(path)
    with pytest.raises(BagError, match=reported):
        import_dataset(path, tmp_path / 'bag')


def test_other_versions_and_missing_frames_are_refused(tmp_path):
    with pytest.raises(BagError, match='of version 3 at .*; found v2.1; convert it'):
        import_dataset(foreign(tmp_path / 'old', version='v2.1'), tmp_path / 'bag')
    with pytest.raises(BagError, match='expected 12 frames of episode 1 in .*; found 9'):
        import_dataset(foreign(tmp_path / 'short', drop=3), tmp_path / 'bag')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['old', 'short']


def test_the_commands_go_there_and_back(tmp_path, capsys):
    dataset = foreign(tmp_path / 'set')
    assert main(['dataset', 'import', str(dataset), '--output', str(tmp_path / 'bag')]) == 0
    contract = str(tmp_path / 'bag.yaml')
    words = ['dataset', 'export', str(tmp_path / 'bag'), '--contract', contract, '--output', str(tmp_path / 'again')]
    assert main(words) == 0
    printed = ' '.join(capsys.readouterr().out.split())
    assert 'wrote 2 episodes, 22 frames to' in printed and 'wrote 2 episodes to' in printed
    table = pq.read_table(tmp_path / 'again' / 'data' / 'chunk-000' / 'file-000.parquet')
    np.testing.assert_array_equal(table['action'].to_pylist(), 1 + np.arange(22)[:, None] + np.arange(6) / 8)
    assert main(words) == 2
    assert 'a free place' in capsys.readouterr().err
