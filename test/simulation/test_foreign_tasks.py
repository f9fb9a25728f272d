"""Tasks and robots that do not ship: loaded from files, modules and entry points, judged and validated."""

from __future__ import annotations

import functools
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from vdd_ros.common.errors import ConfigurationError, ModelError, SimulationError, VddError
from vdd_ros.common.progress import silent
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.sim.demonstration import demonstrate
from vdd_ros.sim.demonstration_tally import DemonstrationTally
from vdd_ros.sim.disturbances import load_disturbances
from vdd_ros.sim.tasks import SuccessDetector, Task, load_task, task_of
from vdd_ros.validation.films import film_all
from vdd_ros.validation.judgement import judge
from vdd_ros.validation.report_file import read_report
from vdd_ros.validation.rollout import BATCH, rollout
from vdd_ros.validation.thresholds import Gate, Threshold
from vdd_ros.validation.validate import Plan, validate

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.constant_student import save_student

REACH = Path(__file__).parents[2] / 'examples' / 'reach'

PUSH = """
import numpy as np
from vdd_ros.sim.start import Start
from vdd_ros.sim.tasks import SceneTask, SuccessDetector


class Pushed(SuccessDetector):
    def judge(self, simulation):
        return 'success' if simulation.place('flange')[0] > 0.5 else 'running'


class Push(SceneTask):
    name = 'push'
    scene = 'scene.yaml'
    contract = 'contract.yaml'
    detector = Pushed
    time_limit = 1.0


TASK = Push
"""

MODEL = """
<mujoco>
  <option timestep="0.002" integrator="implicitfast"/>
  <worldbody>
    <body name="cart" gravcomp="1"><joint name="slide" type="slide" axis="1 0 0" damping="5"/>
      <geom size="0.05" mass="1"/>
      <body name="flange" pos="0.1 0 0" gravcomp="1"><joint name="finger" type="slide" axis="0 1 0" range="0 0.1"/>
        <geom size="0.01" mass="0.1"/>
      </body>
    </body>
  </worldbody>
  <actuator>
    <position name="slide" joint="slide" kp="4000" kv="200"/>
    <position name="finger" joint="finger" kp="500" kv="30"/>
  </actuator>
</mujoco>
"""

SCENE = """
model: model.xml
start: {slide: 0.2, finger: 0.03}
controllers:
  pusher: {type: position, joints: [slide]}
  hand: {type: position, joints: [finger]}
"""

CONTRACT = """
name: push
robot: {model: %s, tool: flange, joints: [slide]}
topics: {commands: pusher/commands}
policy_rate: 20
observation: [{name: commanded, source: commanded, space: joint}]
action: {name: step, source: commanded, space: joint}
"""


@pytest.fixture
def push(tmp_path: Path) -> Path:
    """Return the file of a task with one mode, no obstacles, no demonstrator and no drawing."""
    (tmp_path / 'model.xml').write_text(MODEL)
    (tmp_path / 'scene.yaml').write_text(SCENE)
    (tmp_path / 'contract.yaml').write_text(CONTRACT % (tmp_path / 'model.xml'))
    file = tmp_path / 'push.py'
    file.write_text(PUSH)
    return file


@pytest.fixture
def reach(monkeypatch: pytest.MonkeyPatch) -> Task:
    """Return the task of examples/reach: a URDF, two modes, a demonstrator."""
    monkeypatch.chdir(REACH)
    return load_task('task.py')


def offer(folder: Path, name: str, value: str) -> None:
    """Install a package of one entry point into a folder."""
    information = folder / 'some_lab-1.0.dist-info'
    information.mkdir()
    (information / 'METADATA').write_text('Metadata-Version: 2.1\nName: some-lab\nVersion: 1.0\n')
    (information / 'entry_points.txt').write_text(f'[vdd_ros.tasks]\n{name} = {value}\n')


def test_a_task_is_loaded_by_file_by_module_and_by_entry_point(push, monkeypatch):
    monkeypatch.syspath_prepend(push.parent)
    offer(push.parent, 'push', 'push:Push')
    for reference in (push, f'{push}:Push', 'push:Push', 'push'):
        task = load_task(reference)
        assert task.name == 'push' and task.joints == ('slide',) and task.tool == 'flange'
        assert load_task(task.reference).scene_hash == task.scene_hash
    monkeypatch.chdir(push.parent)
    assert load_task('push.py').reference == f'{push}:TASK'
    own, other = load_contract('contract.yaml'), load_contract('avoiding_joint')
    assert task_of(own).name == 'push' and task_of(other).name == 'avoiding'
    assert task_of(own.model_copy(update={'robot': other.robot})) is None


def test_a_task_may_be_an_instance_or_a_function_and_import_files_beside_it(push):
    (push.parent / 'numbers_of_mine.py').write_text('LIMIT = 3.0')
    text = PUSH.replace('import numpy as np', 'from numbers_of_mine import LIMIT').replace('= 1.0', '= LIMIT')
    push.write_text(text.replace('TASK = Push', 'TASK = Push()'))
    assert load_task(push).max_steps == 60
    push.write_text(text.replace('TASK = Push', 'def TASK():\n    return Push()'))
    assert load_task(push).max_steps == 60


@pytest.mark.parametrize(
    ('change', 'reported'),
    [
        (('class Pushed', 'class Pushed('), 'line 7'),
        (('import numpy', 'import numpi'), r'numpi.* in .*push\.py, line 2'),
        (('TASK = Push', ''), "no attribute 'TASK'"),
        (('TASK = Push', 'TASK = 7'), 'found a int'),
        (('    detector = Pushed\n', ''), r'found no detector; set them in .*push\.py'),
        (('scene.yaml', 'other.yaml'), 'expected a scene file at .*other.yaml'),
        (('contract.yaml', 'other.yaml'), 'expected a contract file'),
        (
            ('    time_limit = 1.0', "    obstacles = ('wall',)"),
            'expected a geom or body wall in the scene; found',
        ),
        (('    time_limit = 1.0', "    tool = 'nose'"), 'expected a site or body nose in the scene; found'),
        (
            ("return 'success'", "simulation.touched(('cart',), ('wall',))\n        return 'success'"),
            'expected a geom or body wall in the scene; found',
        ),
        (
            ('    time_limit = 1.0', '    starts = (Start(position={"finger": 0.5}),)'),
            'finger within its limits, 0 to 0.1 m',
        ),
        (("return 'success' if", "return 'won' if True or"), r"found 'won' and 0 of Pushed"),
        (("place('flange')[0]", "place('flange')[7]"), r'IndexError.*; correct the success detector of the task push'),
    ],
)
def test_a_task_that_is_wrong_is_refused_with_its_place(push, change, reported):
    assert change[0] in PUSH
    push.write_text(PUSH.replace(*change))
    with pytest.raises(VddError, match=reported):
        load_task(push)


def test_a_task_that_does_not_exist_is_refused_with_those_that_do(tmp_path):
    with pytest.raises(ConfigurationError, match=r'one of avoiding, .*; found juggling; give the path of the file'):
        load_task('juggling')
    with pytest.raises(ConfigurationError, match='no such file'):
        load_task(tmp_path / 'absent.py')
    with pytest.raises(ConfigurationError, match="No module named 'some_lab'"):
        load_task('some_lab.tasks:Push')


def test_a_policy_period_must_be_a_whole_number_of_physics_steps(push):
    scene = push.parent / 'scene.yaml'
    scene.write_text(SCENE + 'timestep: 0.003\n')
    with pytest.raises(ConfigurationError, match='3000000 ns; found 50000000 ns'):
        load_task(push)


def test_a_detector_whose_mode_is_not_of_the_task_is_named(push):
    class Lost(SuccessDetector):
        def judge(self, simulation: object) -> str:
            return 'running'

        mode = 3

    with pytest.raises(ConfigurationError, match="a mode from 0 to 0, or None; found 'running' and 3 of Lost"):
        load_task(push).judge(Lost(), load_task(push).simulation())


def test_joints_that_the_policy_does_not_command_are_held(push):
    task = load_task(push)
    simulation = task.simulation(('slide',))
    simulation.step(500_000_000)
    np.testing.assert_allclose(simulation.data.qpos, [0.2, 0.03], atol=1e-6)


def test_a_task_without_demonstrator_gives_the_remedy(push):
    with pytest.raises(ConfigurationError, match='vdd record-live'):
        load_task(push).new_demonstrator(np.random.default_rng())


def test_demonstrations_are_given_up_after_failures_without_a_success_or_after_too_many():
    tally = DemonstrationTally('push')
    for _ in range(19):
        tally.fail('one')
    with pytest.raises(SimulationError, match=r'within 20; found 20 failures and 0 successes: one \(19\), other \(1\)'):
        tally.fail('other')
    tally = DemonstrationTally('push', max_failures=30)
    tally.succeed()
    for _ in range(30):
        tally.fail('one')
    with pytest.raises(SimulationError, match='at most 30 failed demonstrations of push; found 31 failures and 1 '):
        tally.fail('one')
    assert (tally.successes, tally.failures) == (1, 31)


def test_the_hash_of_a_scene_is_that_of_its_files_wherever_they_are(push, tmp_path):
    before = load_task(push).scene_hash
    moved = shutil.copytree(push.parent, tmp_path / 'elsewhere')
    assert load_task(moved / 'push.py').scene_hash == before
    model = push.parent / 'model.xml'
    model.write_text(MODEL.replace('size="0.05"', 'size="0.06"'))
    assert load_task(push).scene_hash != before


def test_demonstrations_on_a_urdf_succeed_in_both_modes(reach):
    contract = load_contract(reach.contract)
    shown = demonstrate(reach, contract, 6, seed=0)
    assert all(episode.success for episode in shown)
    assert {episode.labels['mode'] for episode in shown} == {'near', 'far'}
    # A straight line meets the post, which is named by its body.
    artifactless = functools.partial(_Straight, contract)
    failed = rollout(reach, contract, artifactless, 1, seed=0)
    assert failed.causes == ('collision',) and failed.clearance[0] < 0.001


class _Straight:
    """A planner that goes straight to the goal."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract

    def plan(self, observation: np.ndarray, generator: np.random.Generator) -> object:
        from vdd_ros.policy.policy import Plan as Chunk

        chunk = np.tile([0.0, 0.01], (len(observation), self.contract.prediction_horizon, 1))
        return Chunk(chunk, np.full(len(observation), -1))


def test_worker_processes_load_a_foreign_task_themselves(push, monkeypatch):
    contract, task = load_contract(push.parent / 'contract.yaml'), load_task(push)
    student = save_student(push.parent / 'student', [[0.03]], push.parent / 'contract.yaml')
    policy = functools.partial(DistilledPolicy.load, student)
    one, two = (rollout(task, contract, policy, BATCH + 1, 0, processes) for processes in (1, 2))
    assert one.success.all() and set(one.mode) == {0}
    np.testing.assert_array_equal(one.steps, two.steps)
    assert np.isnan(one.clearance).all()


def test_a_foreign_robot_is_validated_and_passes_the_gate(push):
    student = save_student(push.parent / 'student', [[0.03]], push.parent / 'contract.yaml')
    gate = push.parent / 'gate.yaml'
    gate.write_text('scenarios: {nominal: {success: 0.9, entropy: 0.3, near_miss: 0.001}}\nothers: {success: 0.5}')
    plan = Plan(
        task=str(push), episodes=3, disturbance_episodes=1, deployed_episodes=0, ros_episodes=0, gate=gate, films=False
    )
    output = push.parent / 'student.report'
    validate(output, plan, student=student, progress=silent)
    report = read_report(output)
    assert report['subject']['task'] == 'push' and report['subject']['obstacles'] is False
    assert report['scenarios'][0]['name'] == 'nominal'
    verdict = judge(report, Gate(scenarios={'nominal': Threshold(success=0.9, entropy=0.3, near_miss=0.001)}))
    assert verdict.passes and [check.figure for check in verdict.checks] == ['episodes', 'success']
    with pytest.raises(ConfigurationError, match='expected a task for the contract push; found none'):
        validate(push.parent / 'other', Plan(), student=student, progress=silent)
    with pytest.raises(ConfigurationError, match='with the joints joint1, .*; found the joints slide of push'):
        validate(push.parent / 'other', Plan(task='avoiding'), student=student, progress=silent)


def test_a_task_has_the_scenarios_beside_its_scene(push):
    (push.parent / 'scenarios.yaml').write_text('windy: {commands: {latency: 0.1}}')
    scene = load_task(push).scene
    assert load_disturbances('windy', scene).commands.latency == 0.1
    assert not load_disturbances('late_commands', scene).is_nominal
    with pytest.raises(ConfigurationError, match='found windy; use one of nominal'):
        load_disturbances('windy')


def test_the_usual_drawing_shows_obstacles_where_they_stand(reach):
    axes = Figure().subplots()
    reach.draw(axes)
    (post,) = axes.patches
    assert tuple(post.center) == pytest.approx((0.45, 0.0)) and post.radius == pytest.approx(0.03)
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[0.45, -0.25]], atol=2e-3)


def test_a_scene_without_a_camera_is_filmed_freely(push):

    task, contract = load_task(push), load_contract(push.parent / 'contract.yaml')
    student = save_student(push.parent / 'student', [[0.03]], push.parent / 'contract.yaml')
    rollouts = rollout(task, contract, functools.partial(DistilledPolicy.load, student), 1, 0)
    films = film_all(task, {'nominal': {'student': rollouts}}, push.parent, lambda done, total: None)
    assert films['nominal'].stat().st_size > 1000


def test_a_scene_that_lacks_a_joint_of_the_contract_is_refused(push):
    contract = push.parent / 'contract.yaml'
    contract.write_text(contract.read_text().replace('[slide]', '[slide, wrist]'))
    with pytest.raises(ModelError, match='expected a joint wrist in the scene; found slide, finger'):
        load_task(push)
