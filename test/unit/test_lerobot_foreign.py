"""LeRobot datasets of others: every number and picture arrives, whatever their order, types and times."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from vdd_ros.commands.cli import main
from vdd_ros.common.errors import BagError, OutputError
from vdd_ros.contract.contract import load_contract
from vdd_ros.data.bag.bag import Bag
from vdd_ros.data.bag.bag_messages import joint_state
from vdd_ros.data.convert import convert
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.episode import Episode
from vdd_ros.data.lerobot.lerobot import export_episodes
from vdd_ros.data.lerobot.lerobot_dataset import Dataset
from vdd_ros.data.lerobot.lerobot_import import Imported, import_dataset

FILM, STILL = 'observation.images.top', 'observation.images.wrist.left'
SIZE = (32, 48)


def level(episode: int, frame: int) -> int:
    """Return the grey of a frame, told apart from all others by more than a codec changes."""
    return 8 + 60 * episode + 5 * frame


class Made:
    """A dataset of three episodes, and what is in it."""

    def __init__(
        self,
        path: Path,
        *,
        lengths: tuple[int, ...] = (7, 9, 8),
        rate: int = 10,
        film: tuple[int, ...] | None = None,
        stills: bool = False,
        pause: int = 0,
        tasks: tuple[tuple[int, ...], ...] = ((0,), (1,), (0,)),
        listed: tuple[int, ...] = (0, 1, 2),
        extra: dict[str, tuple[dict, pa.Array]] | None = None,
        names: tuple[str, str] = ('a', 'b'),
        state_names: tuple[str, ...] = ('a', 'b'),
        reported: tuple[str, ...] = ('tasks',),
    ) -> None:
        """Write it; ``film`` is the order of the episodes in the film, -1 a take that was thrown away."""
        self.path, self.rate = path, rate
        frames = np.concatenate([np.arange(length) for length in lengths])
        episode = np.repeat(np.arange(len(lengths)), lengths)
        total = len(frames)
        chance = np.random.default_rng(0)
        self.state = chance.normal(size=(total, len(state_names))).astype(np.float32)
        self.action = chance.normal(size=(total, 2)).astype(np.float32)
        self.episode, self.frames, self.lengths = episode, frames, lengths
        times = frames / rate + pause * (frames > 3)
        columns: dict = {'observation.state': _lists(self.state), 'action': _lists(self.action)}
        columns |= {'timestamp': times.astype(np.float32), 'frame_index': frames, 'episode_index': episode}
        chosen = [tasks[e][min(f * len(tasks[e]) // lengths[e], len(tasks[e]) - 1)] for e, f in zip(episode, frames)]
        columns |= {'index': np.arange(total), 'task_index': chosen}
        features: dict = {
            'observation.state': {'dtype': 'float32', 'shape': [len(state_names)], 'names': list(state_names)},
            'action': {'dtype': 'float32', 'shape': [2], 'names': list(names)},
            'timestamp': {'dtype': 'float32', 'shape': [1], 'names': None},
        }
        for name in ('frame_index', 'episode_index', 'index', 'task_index'):
            features[name] = {'dtype': 'int64', 'shape': [1], 'names': None}
        for key, (feature, values) in (extra or {}).items():
            features[key], columns[key] = feature, values
        if stills:
            self.stills = chance.integers(0, 256, (total, 6, 8, 3), dtype=np.uint8)
            features[STILL] = {'dtype': 'image', 'shape': [6, 8, 3], 'names': None}
            columns[STILL] = pa.array([{'bytes': _png(item), 'path': None} for item in self.stills])
        starts: dict[int, int] = {}
        if film is not None:
            features[FILM] = {'dtype': 'video', 'shape': [*SIZE, 3], 'names': None}
            greys: list[int] = []
            for number in film:
                if number < 0:
                    greys += [255] * 4
                else:
                    starts[number] = len(greys)
                    greys += [level(number, frame) for frame in range(lengths[number])]
            _film(path / f'videos/{FILM}/chunk-000/file-000.mp4', greys, rate)
        rows = []
        for number in listed:
            begin = int(np.sum(lengths[:number]))
            row = {'episode_index': number, 'length': lengths[number], 'data/chunk_index': 0, 'data/file_index': 0}
            row |= {'dataset_from_index': begin, 'dataset_to_index': begin + lengths[number]}
            row['tasks'] = [f'task {task}' for task in tasks[number]]
            row |= {f'videos/{FILM}/chunk_index': 0, f'videos/{FILM}/file_index': 0} if film is not None else {}
            if film is not None:
                row[f'videos/{FILM}/from_timestamp'] = starts[number] / rate
                row[f'videos/{FILM}/to_timestamp'] = (starts[number] + lengths[number]) / rate
            rows.append({key: value for key, value in row.items() if key != 'tasks' or 'tasks' in reported})
        for folder in ('data/chunk-000', 'meta/episodes/chunk-000'):
            (path / folder).mkdir(parents=True)
        pq.write_table(pa.table(columns), path / 'data/chunk-000/file-000.parquet')
        pq.write_table(pa.Table.from_pylist(rows), path / 'meta/episodes/chunk-000/file-000.parquet')
        pq.write_table(pa.table({'task_index': [0, 1], 'task': ['task 0', 'task 1']}), path / 'meta/tasks.parquet')
        self.info = {
            'codebase_version': 'v3.0', 'fps': rate, 'features': features, 'total_episodes': len(listed),
            'data_path': 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet',
            'video_path': 'videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4',
        }  # fmt: skip
        self.tell()

    def tell(self, **change: object) -> None:
        """Write info.json."""
        (self.path / 'meta/info.json').write_text(json.dumps({**self.info, **change}))

    def rows(self, number: int) -> np.ndarray:
        """Return which rows are those of an episode."""
        return np.flatnonzero(self.episode == number)


def _lists(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def _png(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Pillow.fromarray(pixels).save(data, 'PNG')
    return data.getvalue()


def _film(path: Path, greys: list[int], rate: int) -> None:
    path.parent.mkdir(parents=True)
    writer = imageio_ffmpeg.write_frames(
        str(path), SIZE[::-1], fps=rate, codec='libx264', macro_block_size=1, output_params=['-crf', '3']
    )
    writer.send(None)
    for grey in greys:
        writer.send(np.full((*SIZE, 3), grey, dtype=np.uint8).tobytes())
    writer.close()


def demonstrations(found: Imported, *, entries: int = 0) -> list[Episode]:
    """Convert what was imported by its own contract."""
    report = ConversionReport()
    episodes = list(convert(found.bag, load_contract(found.contract), None, report))
    assert sum(entry.kind != 'note' for entry in report.entries) == entries, report.entries
    return episodes


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    film=st.permutations([0, 1, 2, -1, -1]),
    listed=st.permutations([0, 1, 2]).map(tuple),
    rate=st.sampled_from([10, 15, 30]),
)
def test_images_of_a_video_are_those_of_their_frames_in_any_order(tmp_path_factory, film, listed, rate):
    folder = tmp_path_factory.mktemp('film')
    made = Made(folder / 'set', film=tuple(film), listed=listed, rate=rate, stills=True)
    found = import_dataset(made.path, folder / 'bag')
    assert not found.report.entries
    episodes = demonstrations(found)
    assert len(episodes) == 3
    for number, episode in zip(listed, episodes):
        rows = made.rows(number)
        np.testing.assert_array_equal(episode.action, made.action[rows])
        np.testing.assert_array_equal(episode.observation, made.state[rows])
        stills = np.stack(episode.images['wrist_left'].rows).reshape(-1, 6, 8, 3)
        np.testing.assert_array_equal(stills, made.stills[rows])
        greys = np.stack(episode.images['top'].rows).mean(axis=1)
        np.testing.assert_allclose(greys, [level(number, frame) for frame in range(made.lengths[number])], atol=2)
        assert episode.labels['language'] == f'task {number % 2}'
    assert av.logging.get_level() is None  # its callback can lock up a decoder that logs


def test_whole_numbers_flags_and_matrices_are_observed(tmp_path):
    total = 24
    hands = np.random.default_rng(1).normal(size=(total, 2, 3)).astype(np.float32)
    nested = pa.array(hands.tolist(), pa.list_(pa.list_(pa.float32())))
    extra = {
        'observation.gripper': ({'dtype': 'int64', 'shape': [1], 'names': None}, pa.array(np.arange(total) % 2)),
        'observation.contact': ({'dtype': 'bool', 'shape': [1], 'names': None}, pa.array(np.arange(total) % 3 == 0)),
        'observation.hands': ({'dtype': 'float32', 'shape': [2, 3], 'names': None}, nested),
        'observation.ticks': ({'dtype': 'uint16', 'shape': [2], 'names': None}, _lists(np.full((24, 2), 65535, 'u2'))),
        'next.reward': ({'dtype': 'float64', 'shape': [1], 'names': None}, pa.array(np.arange(total) / 3)),
        'observation.text': ({'dtype': 'string', 'shape': [1], 'names': None}, pa.array(['x'] * total)),
    }
    made = Made(tmp_path / 'set', extra=extra)
    found = import_dataset(made.path, tmp_path / 'bag')
    reported = [str(entry) for entry in found.report.entries]
    assert reported == ['observation.text: 1 part dropped: only numbers and images are read, not string']
    names = [feature.name for feature in load_contract(found.contract).observation]
    assert names == ['measured', 'gripper', 'contact', 'hands', 'ticks']
    for number, episode in enumerate(demonstrations(found)):
        rows = made.rows(number)
        expected = [made.state[rows], (rows % 2)[:, None], (rows % 3 == 0)[:, None], hands[rows].reshape(-1, 6)]
        np.testing.assert_array_equal(episode.observation[:, :-2], np.hstack(expected))
        assert (episode.observation[:, -2:] == 65535).all()
    with Bag(found.bag) as bag:  # what comes after the action is no observation, but it is not lost
        assert bag.topics['/dataset/next_reward'].count == total


def test_episodes_and_files_that_are_not_listed_are_reported(tmp_path):
    made = Made(tmp_path / 'set', listed=(2, 0))
    data = made.path / 'data/chunk-000'
    table = pq.read_table(data / 'file-000.parquet')
    place = table.schema.get_field_index('episode_index')
    others = table.set_column(place, 'episode_index', pa.array([2] * len(table)))
    pq.write_table(others, data / 'file-001.parquet')
    found = import_dataset(made.path, tmp_path / 'bag')
    # Episode 1 of the first file, and rows of the second file that say that they are of episode 2.
    entries = [(entry.kind, entry.where, entry.count, entry.place) for entry in found.report.entries]
    assert entries == [('episode', 'data', 2, 'episode 1')] and 'meta/episodes' in found.report.entries[0].why
    first, second = demonstrations(found)
    np.testing.assert_array_equal(first.action, made.action[made.rows(2)])
    np.testing.assert_array_equal(second.action, made.action[made.rows(0)])


@pytest.mark.parametrize('reported', [('tasks',), ()])
def test_all_instructions_of_an_episode_arrive(tmp_path, reported):
    made = Made(tmp_path / 'set', tasks=((1,), (1, 0), (0,)), reported=reported)
    labels = [episode.labels for episode in demonstrations(import_dataset(made.path, tmp_path / 'bag'))]
    assert [item['language'] for item in labels] == ['task 1', 'task 1; task 0', 'task 0']
    assert json.loads(labels[1]['tasks']) == ['task 1', 'task 0'] and 'tasks' not in labels[0]


@pytest.mark.parametrize('film', [None, (0, 1, 2)])
def test_pauses_are_kept_and_not_used_for_training(tmp_path, film):
    made = Made(tmp_path / 'set', pause=2, film=film)
    found = import_dataset(made.path, tmp_path / 'bag')
    assert [entry.count for entry in found.report.entries if 'pauses' in entry.why] == [1, 1, 1]
    episodes = demonstrations(found, entries=3)
    assert [len(episode) for episode in episodes] == [4, 3, 4, 5, 4, 4]
    stamps = np.concatenate([episode.stamps for episode in episodes[:2]])
    np.testing.assert_array_equal(np.diff(stamps), [10**8] * 3 + [21 * 10**8] + [10**8] * 2)
    np.testing.assert_array_equal(np.vstack([item.action for item in episodes]), made.action)
    if film is not None:
        greys = np.concatenate([np.stack(item.images['top'].rows).mean(axis=1) for item in episodes])
        np.testing.assert_allclose(greys, [level(*item) for item in zip(made.episode, made.frames)], atol=2)


def test_a_state_is_taken_in_the_order_of_the_actions_by_its_names(tmp_path):
    made = Made(tmp_path / 'set', state_names=('b', 'a'))
    found = import_dataset(made.path, tmp_path / 'bag')
    episodes = demonstrations(found)
    np.testing.assert_array_equal(episodes[0].observation, made.state[made.rows(0)][:, ::-1])
    other = import_dataset(Made(tmp_path / 'other', state_names=('x', 'y')).path, tmp_path / 'other_bag')
    assert 'differ from those of the action' in str(other.report.entries[0])


def test_names_that_are_equal_once_cleaned_get_distinct_names(tmp_path):
    found = import_dataset(Made(tmp_path / 'set', names=('left.j1', 'left_j1')).path, tmp_path / 'bag')
    assert load_contract(found.contract).robot.joints == ('left_j1', 'left_j1_2')
    extra = {
        key: ({'dtype': 'float32', 'shape': [1], 'names': None}, pa.array(np.arange(24.0).astype(np.float32)))
        for key in ('observation.hand.x', 'observation.hand_x', 'observation.measured')
    }
    found = import_dataset(Made(tmp_path / 'two', extra=extra, stills=True).path, tmp_path / 'two_bag')
    names = [feature.name for feature in load_contract(found.contract).observation]
    assert names == ['measured', 'hand_x', 'hand_x_2', 'measured_2', 'wrist_left']


def test_a_dataset_without_observations_is_used_for_training_by_its_actions(tmp_path):
    made = Made(tmp_path / 'set')
    del made.info['features']['observation.state']
    made.tell()
    found = import_dataset(made.path, tmp_path / 'bag')
    assert 'no numbers are observed' in str(found.report.entries[0])
    np.testing.assert_array_equal(demonstrations(found)[0].action, made.action[made.rows(0)])


def test_an_import_leaves_a_bag_without_hidden_files_or_nothing(tmp_path):
    made = Made(tmp_path / 'set', film=(0, 1, 2))
    found = import_dataset(made.path, tmp_path / 'bag')
    assert sorted(item.name for item in found.bag.iterdir()) == ['bag_0.mcap', 'metadata.yaml']
    assert {item.name for item in tmp_path.iterdir()} == {'set', 'bag', 'bag.yaml', 'bag.model.xml'}
    _film_of(made).write_bytes(_film_of(made).read_bytes()[:2000])  # after the first frames were written
    with pytest.raises(BagError):
        import_dataset(made.path, tmp_path / 'again')
    assert {item.name for item in tmp_path.iterdir()} == {'set', 'bag', 'bag.yaml', 'bag.model.xml'}
    (tmp_path / 'next.model.xml').write_text('mine')
    with pytest.raises(OutputError, match='an existing file or folder'):
        import_dataset(made.path, tmp_path / 'next')
    assert (tmp_path / 'next.model.xml').read_text() == 'mine'
    (tmp_path / 'file').write_text('')
    with pytest.raises(OutputError):
        import_dataset(made.path, tmp_path / 'file' / 'bag')


def _film_of(made: Made) -> Path:
    return made.path / f'videos/{FILM}/chunk-000/file-000.mp4'


def test_a_video_that_ends_too_early_is_refused_with_the_time_that_it_lacks(tmp_path):
    made = Made(tmp_path / 'set', film=(0, 1, 2))
    _film_of(made).unlink()
    _film_of(made).parent.rmdir()
    _film(_film_of(made), [level(0, frame) for frame in range(9)], made.rate)
    with pytest.raises(BagError, match=r'an image at 0\.9000 s of .*file-000.mp4, for frame 2 of observation'):
        import_dataset(made.path, tmp_path / 'bag')


@pytest.mark.parametrize(
    ('change', 'reported'),
    [
        ({'fps': 0}, 'fps above 0'),
        ({'fps': None}, 'no readable meta/info.json'),
        ({'features': {'action': {'dtype': 'float32', 'shape': None}}}, 'a shape of action'),
        ({'features': {'action': {'shape': [2]}}}, 'a dtype of action'),
        ({'features': {'action': {'dtype': 'float32', 'shape': [3], 'names': None}}}, '3 numbers of action in each'),
        ({'features': {}}, 'a feature action'),
    ],
)
def test_what_is_wrong_in_info_is_refused_by_name(tmp_path, change, reported):
    made = Made(tmp_path / 'set')
    made.tell(**change)
    with pytest.raises(BagError, match=reported):
        import_dataset(made.path, tmp_path / 'bag')
    assert [item.name for item in tmp_path.iterdir()] == ['set']


def test_pointers_of_git_lfs_are_called_that(tmp_path):
    made = Made(tmp_path / 'set', film=(0, 1, 2))
    for file in (_film_of(made), made.path / 'data/chunk-000/file-000.parquet'):
        file.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n')
        with pytest.raises(BagError, match='a git-lfs pointer; run `git lfs pull`'):
            import_dataset(made.path, tmp_path / 'bag')


def test_the_command_reports_what_it_left_out(tmp_path, capsys):
    extra = {'observation.text': ({'dtype': 'string', 'shape': [1], 'names': None}, pa.array(['x'] * 24))}
    made = Made(tmp_path / 'set', extra=extra, listed=(0, 2))
    assert main(['dataset', 'import', str(made.path), '--output', str(tmp_path / 'bag')]) == 0
    printed = ' '.join(capsys.readouterr().out.split())
    assert 'dropped: observation.text' in printed and 'dropped: data: 1 episode dropped' in printed


def test_rows_of_an_array_in_any_layout_are_serialised():
    turned = np.arange(6.0).reshape(3, 2)[:, ::-1]
    assert joint_state(1, ['a', 'b'], turned[1]) == joint_state(1, ['a', 'b'], [3.0, 2.0])


def scheduling_of_threads() -> set[int]:
    """Return the scheduling classes of the threads of this process."""
    classes = set()
    for folder in Path('/proc/self/task').iterdir():
        with contextlib.suppress(ProcessLookupError):  # it has ended
            classes.add(os.sched_getscheduler(int(folder.name)))
    return classes


@pytest.mark.parametrize(('codec', 'side'), [('h264', 64), ('h264', 37), ('av1', 64), ('av1', 37)])
def test_videos_are_written_on_request_and_read_back(tmp_path, codec, side):
    contract = load_contract('avoiding_joint').model_dump(mode='json')
    contract |= {'schema_version': 2, 'policy_rate': 100 / 7, 'robot': {**contract['robot'], 'joints': ['a', 'b']}}
    image = {'topic': 'top/image_raw', 'type': 'sensor_msgs/msg/Image'}
    image['image'] = {'height': side, 'width': side, 'color': 'rgb'}
    contract['observation'] = [contract['observation'][0], {'name': 'top', **image}]
    contract = type(load_contract('avoiding_joint')).model_validate(contract)
    episodes = []
    for number in range(3):
        greys = np.array([level(number, frame) for frame in range(6 + number)]) / 255
        state = np.random.default_rng(number).normal(size=(len(greys), 2))
        pixels = np.repeat(greys[:, None], 3 * side * side, axis=1)
        episodes.append(Episode(np.hstack([state, pixels]), state + 1))
    scheduling = scheduling_of_threads()
    export_episodes(episodes, contract, tmp_path / 'set', video=codec)
    # The AV1 encoder asks for real-time priority. Threads of earlier tests have classes of their own.
    assert scheduling_of_threads() <= scheduling | {os.SCHED_OTHER}
    info = json.loads((tmp_path / 'set/meta/info.json').read_text())
    feature = info['features']['observation.images.top']
    assert (feature['dtype'], feature['shape'], feature['info']['video.codec']) == ('video', [side, side, 3], codec)
    assert pq.read_schema(tmp_path / 'set/data/chunk-000/file-000.parquet').names[:2] == ['observation.state', 'action']
    dataset = Dataset(tmp_path / 'set')
    for before, after in zip(episodes, dataset.episodes()):
        np.testing.assert_array_equal(after.numbers['action'], before.action.astype(np.float32))
        greys = [pixels.mean() for pixels in after.pictures['observation.images.top']]
        np.testing.assert_allclose(greys, 255 * before.observation[:, 2:].mean(axis=1), atol=2)
    assert not dataset.report.entries


def test_videos_that_cannot_be_made_leave_nothing_behind(tmp_path):
    contract = load_contract('avoiding_joint').model_dump(mode='json')
    contract |= {'schema_version': 2, 'robot': {**contract['robot'], 'joints': ['a', 'b']}}
    image = {'height': 8, 'width': 8, 'color': 'rgb'}
    contract['observation'] = [{'name': 'top', 'topic': 'top', 'type': 'Image', 'image': image}]
    contract = type(load_contract('avoiding_joint')).model_validate(contract)
    with pytest.raises(OutputError, match='one of h264, av1'):
        export_episodes([Episode(np.zeros((4, 192)), np.zeros((4, 2)))], contract, tmp_path / 'set', video='gif')

    def broken():
        yield Episode(np.zeros((4, 192)), np.zeros((4, 2)))
        raise BagError(expected='more', found='less', remedy='none')

    with pytest.raises(BagError, match='expected more'):
        export_episodes(broken(), contract, tmp_path / 'set', video='h264')
    (tmp_path / 'file').write_text('')
    with pytest.raises(OutputError):
        export_episodes(broken(), contract, tmp_path / 'file' / 'set')
    assert [item.name for item in tmp_path.iterdir()] == ['file']
