"""Arms that only a URDF describes: what touches by design blocks nothing, and what a URDF lacks is said in YAML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from benchmarks import urdfs
from vdd_ros.common.errors import ModelError, VddError
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.stage import open_stage

_INERTIAL = '<inertial><mass value="1"/><inertia ixx=".01" iyy=".01" izz=".01" ixy="0" ixz="0" iyz="0"/></inertial>'
_TETRAHEDRON = 'v 0 0 0\nv 0.1 0 0\nv 0 0.1 0\nv 0 0 0.1\nf 1 3 2\nf 1 2 4\nf 2 3 4\nf 1 4 3\n'


def _cylinder(height: float, length: float, radius: float = 0.06) -> str:
    shape = f'<cylinder radius="{radius}" length="{length}"/>'
    return f'<collision><origin xyz="0 0 {height}"/><geometry>{shape}</geometry></collision>'


def _joint(name: str, parent: str, child: str, height: float, axis: str = '0 1 0') -> str:
    kind = 'fixed' if not axis else 'revolute'
    turn = f'<axis xyz="{axis}"/><limit lower="-2" upper="2" effort="150" velocity="1.5"/>' if axis else ''
    origin = f'<origin xyz="0 0 {height}"/>'
    return f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>{origin}{turn}</joint>'


def _arm(base: str = _cylinder(0.1, 0.2), first: str = _cylinder(0, 0.1), inertial: str = _INERTIAL) -> str:
    """Return an arm whose first link reaches into its base; its third link has a ball of its own."""
    last = inertial + _cylinder(0, 0.05, 0.03)
    links = {'world': '', 'base': base, 'l1': inertial + first, 'l2': inertial, 'l3': last}
    text = ''.join(f'<link name="{name}">{parts}</link>' for name, parts in links.items())
    text += _joint('fix', 'world', 'base', 0, '') + _joint('j1', 'base', 'l1', 0.2, '0 0 1')
    return f'<robot name="arm">{text}{_joint("j2", "l1", "l2", 0.2)}{_joint("j3", "l2", "l3", 0.2)}</robot>'


def _scene(folder: Path, urdf: str, **values: Any) -> Simulation:
    (folder / 'arm.urdf').write_text(urdf, encoding='utf-8')
    servos = [{'joints': ['j1', 'j2', 'j3'], 'stiffness': 2000.0, 'damping': 200.0, 'armature': 0.1}]
    joints = {'type': 'position', 'joints': ['j1', 'j2', 'j3']}
    scene = {'model': 'arm.urdf', 'servos': servos, 'compensate_gravity': ['*'], 'controllers': {'arm': joints}}
    (folder / 'scene.yaml').write_text(json.dumps({**scene, **values}), encoding='utf-8')
    return open_stage('', folder / 'scene.yaml', 'arm', 'position').simulation


def _moved(simulation: Simulation, *goal: float) -> np.ndarray:
    simulation.set_command(np.array(goal))
    simulation.step(4_000_000_000)
    return simulation.position


def test_a_first_link_that_reaches_into_a_fixed_base_turns_on_it(tmp_path: Path):
    simulation = _scene(tmp_path, _arm())
    np.testing.assert_allclose(_moved(simulation, 0.3, 0.2, 0.1), [0.3, 0.2, 0.1], atol=1e-3)
    assert simulation.data.ncon == 0


def test_what_stands_on_the_base_by_a_fixed_joint_is_a_part_of_it(tmp_path: Path):
    plate = f'<link name="plate">{_cylinder(0.2, 0.05)}</link>{_joint("weld", "base", "plate", 0, "")}</robot>'
    simulation = _scene(tmp_path, _arm(base='').replace('</robot>', plate))
    np.testing.assert_allclose(_moved(simulation, 0.3, 0.0, 0.0), [0.3, 0, 0], atol=1e-3)


def test_links_that_touch_at_the_start_do_not_block_each_other_and_others_collide(tmp_path: Path):
    # The shell of l1 reaches up to l3, past l2.
    shell = _cylinder(0.2, 0.5, 0.05)
    straight = _scene(tmp_path, _arm(first=shell))
    np.testing.assert_allclose(_moved(straight, 0.0, 0.3, -0.2), [0, 0.3, -0.2], atol=1e-3)
    # Bent at the start, l3 is clear of it, and may not go in.
    bent = _scene(tmp_path, _arm(first=shell), start={'j2': 1.2})
    assert bent.data.ncon == 0
    assert _moved(bent, 0.0, 0.2, 0.0)[1] > 0.25 and bent.data.ncon > 0


def test_exclude_and_srdf_name_the_pairs_that_do_not_collide(tmp_path: Path):
    shell = _cylinder(0.2, 0.5, 0.05)
    named = _scene(tmp_path, _arm(first=shell), start={'j2': 1.2}, exclude=[['l1', 'l[3]']])
    np.testing.assert_allclose(_moved(named, 0.0, 0.2, 0.0), [0, 0.2, 0], atol=1e-3)
    (tmp_path / 'arm.srdf').write_text(
        """<robot name="arm"><disable_collisions link1="l3" link2="l1" reason="Never"/>
        <disable_collisions link1="l1" link2="a_gripper_of_another_variant" reason="Never"/></robot>"""
    )
    read = _scene(tmp_path, _arm(first=shell), start={'j2': 1.2}, srdf='arm.srdf')
    np.testing.assert_allclose(_moved(read, 0.0, 0.2, 0.0), [0, 0.2, 0], atol=1e-3)


@pytest.mark.parametrize(
    ('values', 'reported'),
    [
        ({'exclude': [['l1', 'l9']]}, 'a body l9 .* base, l1.* correct `exclude`'),
        ({'srdf': 'absent.srdf'}, 'an SRDF at .*absent.srdf.* correct `srdf`'),
        ({'srdf': 'scene.yaml'}, 'an SRDF at .*scene.yaml'),
        ({'srdf': 'other.xml'}, 'found <mujoco>'),
        ({'without_collision': ['hand*']}, 'a link hand.* correct `without_collision`'),
    ],
)
def test_what_a_scene_names_and_the_robot_lacks_is_refused(tmp_path: Path, values: dict, reported: str):
    (tmp_path / 'other.xml').write_text('<mujoco/>')
    with pytest.raises(ModelError, match=reported):
        _scene(tmp_path, _arm(), **values)


_COLLADA = '<collision><geometry><mesh filename="package://arm_description/meshes/base.dae"/></geometry></collision>'


def test_a_collision_mesh_in_collada_is_refused_with_what_helps_and_nothing_else(tmp_path: Path):
    with pytest.raises(ModelError) as refusal:
        _scene(tmp_path, _arm(base=_COLLADA))
    assert refusal.value.remedy == (
        'convert the mesh to STL beside it, or set `without_collision: [base]` in the scene file'
    )
    assert str(refusal.value).count('expected') == 1 and 'base.dae' in refusal.value.found
    simulation = _scene(tmp_path, _arm(base=_COLLADA), without_collision=['base'])
    np.testing.assert_allclose(_moved(simulation, 0.3, 0.2, 0.1), [0.3, 0.2, 0.1], atol=1e-3)


def test_a_mesh_of_the_same_name_stands_in_for_collada(tmp_path: Path):
    meshes = tmp_path / 'meshes'
    meshes.mkdir()
    (meshes / 'base.obj').write_text(_TETRAHEDRON)
    assert _scene(tmp_path, _arm(base=_COLLADA)).model.nmesh == 1


def test_links_without_inertia_are_named_before_anything_diverges(tmp_path: Path):
    bare = _arm(first='', inertial='').replace(_cylinder(0, 0.05, 0.03), '')
    servos = [{'joints': ['j1', 'j2', 'j3'], 'stiffness': 2000.0, 'damping': 200.0}]
    with pytest.raises(ModelError, match='none in l1, l2, l3.*`armature`.*`missing_mass`'):
        _scene(tmp_path, bare, servos=servos)
    for simulation in (_scene(tmp_path, bare), _scene(tmp_path, bare, servos=servos, missing_mass=0.5)):
        np.testing.assert_allclose(_moved(simulation, 0.3, 0.2, 0.1), [0.3, 0.2, 0.1], atol=1e-2)
    assert simulation.model.body('l2').mass == 0.5
    np.testing.assert_allclose(simulation.model.body('l2').inertia, 0.4 * 0.5 * 0.05**2)


def test_a_link_whose_weight_is_in_what_is_fixed_to_it_is_left_as_it_is(tmp_path: Path):
    hand = f'<link name="hand">{_INERTIAL}</link>{_joint("weld", "l3", "hand", 0.1, "")}</robot>'
    whole = f'<link name="l3">{_INERTIAL}{_cylinder(0, 0.05, 0.03)}'
    urdf = _arm(first='').replace(whole, '<link name="l3">').replace('</robot>', hand)
    assert _scene(tmp_path, urdf, missing_mass=0.5).model.body('l3').mass < 1e-5


def test_the_benchmark_moves_an_arm_by_yaml_alone_and_names_the_others(tmp_path: Path):
    (tmp_path / 'maker').mkdir()
    (tmp_path / 'maker' / 'arm.urdf').write_text(_arm())
    servos = [{'joints': ['j1', 'j2', 'j3'], 'stiffness': 2000.0, 'damping': 200.0, 'armature': 0.1}]
    good = {'model': 'maker/arm.urdf', 'servos': servos, 'compensate_gravity': ['*']}
    weak = {**good, 'compensate_gravity': [], 'servos': [{**servos[0], 'force': 0.1}]}
    scenes = tmp_path / 'scenes.yaml'
    scenes.write_text(yaml.safe_dump({'good': good, 'weak': weak, 'absent': {**good, 'model': 'maker/other.urdf'}}))
    rows = {row['arm']: row for row in urdfs.measure(tmp_path, scenes)}
    assert rows['good']['position'] == rows['good']['trajectory'] == 'moves' and rows['good']['joints'] == 3
    assert rows['weak']['position'] == 'does not follow'
    assert 'no such file' in rows['absent']['position']
    assert len(yaml.safe_load(urdfs.SCENES.read_text())) >= 10
    with pytest.raises(VddError, match='scenes of arms'):
        urdfs.measure(tmp_path, tmp_path / 'none.yaml')
