"""Experts explained: attribution in closed form, names bound to the artifact, one page, and rules over a recording."""

from __future__ import annotations

import base64
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from benchmarks.constant_student import save_student
from vdd_ros.commands.cli import main
from vdd_ros.common.errors import ArtifactError, ConfigurationError
from vdd_ros.contract.contract import load_contract
from vdd_ros.data.bag import bag_messages
from vdd_ros.data.bag.bag_writer import BagWriter
from vdd_ros.policy.artifact import load_artifact
from vdd_ros.policy.labels import Label, Labels, default_colour, load_labels, save_labels
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.validation.explain import summarise
from vdd_ros.validation.recorded import predicted_episodes

CONTRACT = load_contract('avoiding_cartesian')
KINEMATICS = Kinematics.from_contract(CONTRACT)
HOME = np.array([-0.4, 0.3, 0.0, -2.2, 0.0, 2.5, 0.4])
STEP = 0.002
"""By which the tool goes on in a tick [m]."""


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """A student whose experts go along x, along y and backwards, and two demonstrations, along x and along y."""
    folder = tmp_path_factory.mktemp('experts')
    save_student(folder / 'student', [[STEP, 0.0], [0.0, STEP], [-STEP, -STEP]])
    topics = {'/joint_states': bag_messages.JOINT_STATE, '/arm_controller/commands': bag_messages.NUMBERS}
    position, orientation = KINEMATICS.tool_position(HOME), KINEMATICS.tool_orientation(HOME)
    stamp = 1
    with BagWriter(folder / 'bag', {**topics, '/episode': bag_messages.MARK}) as writer:
        for index, direction in enumerate(([1.0, 0.0, 0.0], [0.0, 1.0, 0.0])):
            writer.write('/episode', stamp, bag_messages.mark(stamp, 'start', index=index))
            joints = HOME
            for tick in range(30):
                writer.write('/joint_states', stamp, bag_messages.joint_state(stamp, CONTRACT.robot.joints, joints))
                joints = KINEMATICS.solve(position + (tick + 1) * STEP * np.array(direction), orientation, joints)
                writer.write('/arm_controller/commands', stamp, bag_messages.numbers(joints))
                stamp += CONTRACT.period
            writer.write('/episode', stamp, bag_messages.mark(stamp, 'end', index=index))
            stamp += 10 * CONTRACT.period
    return folder


def test_each_action_is_attributed_to_the_expert_that_would_have_done_it(folder):
    policy = DistilledPolicy.load(folder / 'student')
    episodes = predicted_episodes(policy, [folder / 'bag'], KINEMATICS, lambda *_: None)
    along_x, along_y, backwards = summarise(policy.contract, episodes, KINEMATICS)
    ticks = [len(each) for each in episodes]
    assert len(episodes) == 2 and min(ticks) >= 28
    for number, summary in enumerate((along_x, along_y)):
        assert summary.share == pytest.approx(ticks[number] / sum(ticks), abs=0.02)
        assert [one.episode for one in summary.typical] == [number] and summary.typical[0].share > 0.95
        assert summary.probability == pytest.approx(1 / 3, abs=1e-6) and not summary.is_unused
        (path,) = summary.recorded
        assert np.ptp(path[:, number]) > 0.9 * STEP * (ticks[number] - 1) and np.ptp(path[:, 1 - number]) < 1e-3
        for path in summary.predicted:
            made = (path[-1] - path[0])[:2]
            np.testing.assert_allclose(made[number], policy.contract.prediction_horizon * STEP, atol=2 * STEP)
            assert abs(made[1 - number]) < 1e-3
    assert backwards.share < 1e-6 and not backwards.recorded and backwards.acts == 'rarely'
    np.testing.assert_allclose(episodes[0].tool[:, :2], KINEMATICS.tool_position(episodes[0].joints)[:, :2])


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.text = ''

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.sources += [found[key] for key in ('src', 'href') if found.get(key)]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_experts_are_named_and_the_page_shows_them_in_one_file(folder, tmp_path, capsys):
    student = tmp_path / 'student'
    shutil.copytree(folder / 'student', student)
    before = load_artifact(student).hash
    assert main(['label', str(student), '1', 'to the left', '--colour', '#112233']) == 0
    assert load_artifact(student).hash == before
    target = tmp_path / 'page.html'
    assert main(['explain', str(student), str(folder / 'bag'), '--html', str(target)]) == 0
    assert '1 (to the left)' in capsys.readouterr().out
    page = target.read_text()
    parser = _Tags()
    parser.feed(page)
    assert all(source.startswith(('data:', '#')) for source in parser.sources)
    words = ' '.join(parser.text.split())
    assert '1 (to the left)' in words and '#112233' in page and default_colour(0) in page
    assert 'the experts of a student of contract avoiding_cartesian, over 2 demonstrations' in words
    assert len([source for source in parser.sources if source.startswith('data:image/png')]) == 2 + 3
    assert main(['label', str(student), '1']) == 0 and 'no expert has a name' in capsys.readouterr().out
    assert main(['label', str(student), '3', 'fourth']) == 2
    assert 'expected an expert from 0 to 2; found 3' in capsys.readouterr().err


def test_films_show_the_typical_demonstrations_of_every_expert_in_its_colour(folder, tmp_path):
    imageio = pytest.importorskip('imageio_ffmpeg')
    student, target = tmp_path / 'student', tmp_path / 'page.html'
    shutil.copytree(folder / 'student', student)
    assert main(['label', str(student), '1', 'to the left', '--colour', '#ff00ff']) == 0
    assert main(['explain', str(student), str(folder / 'bag'), '--html', str(target), '--video']) == 0
    films = re.findall(r'<video src="data:video/mp4;base64,([^"]+)"', target.read_text())
    assert len(films) == 2
    (tmp_path / 'film.mp4').write_bytes(base64.b64decode(films[1]))
    frames = imageio.read_frames(str(tmp_path / 'film.mp4'))
    size = next(frames)['source_size']
    assert size == (320, 240)
    pictures = [np.frombuffer(each, np.uint8).reshape(240, 320, 3).astype(int) for each in frames]
    edge = pictures[1][1:3, 40:280].reshape(-1, 3).mean(axis=0)
    assert edge[1] < 60 and edge[0] > 200 and edge[2] > 200
    assert len(pictures) > 10 and np.ptp(pictures[1][20:-20, 20:-20], axis=(0, 1)).min() > 50
    path = [(each[20:-20, 20:-20][..., [0, 2]].min(axis=-1) - each[20:-20, 20:-20, 1] > 60).sum() for each in pictures]
    assert np.median(path) > 10, path


def test_films_show_the_scene_of_a_task_that_is_only_in_a_file(folder, tmp_path, capsys):
    pytest.importorskip('imageio_ffmpeg')
    (tmp_path / 'mine.py').write_text(
        'from vdd_ros.sim.tasks.avoiding.task import TASK as Avoiding\n'
        'class TASK(Avoiding):\n    def draw(self, axes):\n        print("drawn by the file")\n'
    )
    student = save_student(tmp_path / 'student', [[STEP, 0.0], [0.0, STEP]], change={'name': 'mine'})
    command = ['explain', str(student), str(folder / 'bag'), '--html', str(tmp_path / 'page.html'), '--video']
    assert main(command) == 2
    reported = ' '.join(capsys.readouterr().err.split())
    assert 'expected a task for the contract mine; found none' in reported and '--task FILE.py' in reported
    assert main([*command, '--task', str(tmp_path / 'mine.py')]) == 0
    assert 'drawn by the file' in capsys.readouterr().out
    assert len(re.findall('data:video/mp4', (tmp_path / 'page.html').read_text())) == 2


def test_labels_are_bound_to_their_artifact(folder, tmp_path):
    labels = Labels({1: Label(name='left'), 2: Label(name='right', colour='#00ff00')})
    save_labels(tmp_path, 'a' * 64, labels)
    found = load_labels(tmp_path, 'a' * 64, 3)
    assert [found.text(expert) for expert in range(3)] == ['0', '1 (left)', '2 (right)']
    assert [found.colour(expert) for expert in range(3)] == [default_colour(0), default_colour(1), '#00ff00']
    assert (found.number('right'), found.number('0'), found.number('middle')) == (2, 0, None)
    assert len({default_colour(expert) for expert in range(64)}) == 64
    for artifact, experts, complaint in (
        ('b' * 64, 3, 'of artifact bbbbbbbbbbbb'),
        ('a' * 64, 2, 'a label of expert 2'),
    ):
        with pytest.raises(ArtifactError, match=complaint):
            load_labels(tmp_path, artifact, experts)
    (tmp_path / 'labels.yaml').write_text('artifact: [')
    with pytest.raises(ArtifactError, match='labels of experts in'):
        load_labels(tmp_path, 'a' * 64, 3)


@pytest.mark.parametrize('name', ['', '7', '7 left', 'a, b', 'a\nb', "it's", 'x' * 41])
def test_a_name_of_an_expert_cannot_be_taken_for_something_else(name):
    with pytest.raises(ConfigurationError, match='a name of a letter'):
        Labels({0: Label(name=name)})


def test_rules_are_checked_against_a_recording(folder, tmp_path, capsys):
    begin = KINEMATICS.tool_position(HOME)
    rules = tmp_path / 'routing.yaml'
    rules.write_text(
        f'parameters: {{night: false}}\nzones: {{ahead: {{x: [{begin[0] + 10.5 * STEP}, null]}}}}\n'
        'rules:\n- {name: no way back, forbid: [2]}\n- {name: careful, when: zone.ahead, speed: 0.5}\n'
        '- {name: late, when: parameter.night, stop: true}\n'
    )
    assert main(['rules', 'show', str(rules), str(folder / 'student')]) == 0
    assert re.search(r'careful .* if its condition holds speed x 0.5', ' '.join(capsys.readouterr().out.split()))
    command = ['rules', 'check', str(rules), str(folder / 'student'), str(folder / 'bag'), '--check']
    assert main(command) == 1  # one of them never applies
    words = ' '.join(capsys.readouterr().out.split())
    assert re.search(r'no way back 100.0% of ticks 2 of 2 forbids 2', words)
    assert re.search(r'careful 3\d.\d% of ticks 1 of 2 speed x 0.5', words)
    assert 'late never 0 of 2' in words and '33.3% of the probability moves' in words and 'would stop' not in words
    assert main([*command, '--parameters', 'night=true']) == 1
    words = ' '.join(capsys.readouterr().out.split())
    assert 'stopped by the rule late' in words and 'the arm would stop in 2 of 2 demonstrations' in words
    assert main([*command, '--parameters', 'nights=true']) == 2
    assert 'known parameters: night' in capsys.readouterr().err
