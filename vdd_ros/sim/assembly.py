"""Builds the scene of a file: a model, what is mounted on it, and the servos that it lacks."""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import mujoco

from vdd_ros.common.errors import ModelError
from vdd_ros.common.share import model_path
from vdd_ros.robot.urdf import is_urdf
from vdd_ros.sim.model import compiled, load_spec
from vdd_ros.sim.scene import Attachment, Gripper, SceneSettings, Servos
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.start import Start

_LEAST_MASS = 1e-3
"""What a servo must move [kg] unless it has an armature: far more than the mass that MuJoCo gives to links of none."""


def open_scene(settings: SceneSettings, folder: Path) -> Simulation:
    """Build the scene of a file at its start.

    The simulation's joints are those of the position and trajectory controllers, then those of `joint_states`.

    Raises
    ------
    ModelError
        A model is absent or malformed, or lacks what the scene file names.

    """
    file = _file(settings.model, folder)
    spec = load_spec(file, without_collision=settings.without_collision, missing_mass=settings.missing_mass)
    links = [body.name for body in spec.bodies if body.name] if is_urdf(file) else []
    for attachment in settings.attachments:
        _attach(spec, attachment, folder)
    for servos in settings.servos:
        _equip(spec, servos, file)
    if settings.servos and spec.option.integrator == int(mujoco.mjtIntegrator.mjINT_EULER):
        # Euler's method takes the damping of servos from the step before, and so shakes light links.
        spec.option.integrator = int(mujoco.mjtIntegrator.mjINT_IMPLICITFAST)
    if settings.timestep is not None:
        spec.option.timestep = settings.timestep
    _compensate(spec, settings.compensate_gravity, file)
    pairs = _named_pairs(spec, settings, folder, file)
    home = Start(settings.keyframe, settings.start)
    if links:
        model = compiled(spec, file)
        _check_inertia(model, settings, file)
        pairs |= touching_pairs(model, links, home)
    for first, second in sorted(pairs):
        spec.add_exclude(bodyname1=first, bodyname2=second)
    model = compiled(spec, file)
    moved = [joint for each in settings.controllers.values() if not isinstance(each, Gripper) for joint in each.joints]
    joints = list(dict.fromkeys([*moved, *settings.joint_states]))
    passive = [joint for joint in joints if joint not in moved]
    return Simulation(model, joints, passive=passive, home=home)


def touching_pairs(model: mujoco.MjModel, links: Sequence[str], start: Start) -> set[tuple[str, str]]:
    """Return the pairs of links of one robot that touch by design: their contacts would block its joints.

    Links that one joint connects, whatever is fixed to either of them: MuJoCo leaves those out by itself, but not where
    one of the two stands still. And links that touch each other at the start, as `Default` in an SRDF.
    """
    bodies = {model.body(link).id: link for link in links}
    still = [body for body in bodies if model.body_weldid[body] == 0]
    pairs = set()
    for body in bodies:
        moving = int(model.body_weldid[body])
        if moving and model.body_weldid[model.body_parentid[moving]] == 0:
            pairs |= {tuple(sorted((bodies[body], bodies[other]))) for other in still}
    data = mujoco.MjData(model)
    start.put(model, data)
    mujoco.mj_forward(model, data)
    for contact in data.contact[: data.ncon]:
        first, second = (bodies.get(int(model.geom_bodyid[geom])) for geom in contact.geom)
        if first is not None and second is not None:
            pairs.add(tuple(sorted((first, second))))
    return pairs


def _named_pairs(spec: mujoco.MjSpec, settings: SceneSettings, folder: Path, file: Path) -> set[tuple[str, str]]:
    """Return the pairs of bodies that the scene file or its SRDF excludes."""
    names = [body.name for body in spec.bodies if body.name]
    pairs = set()
    for patterns in settings.exclude:
        groups = [fnmatch.filter(names, pattern) for pattern in patterns]
        for pattern, group in zip(patterns, groups):
            if not group:
                raise ModelError(
                    expected=f'a body {pattern} in {file} to exclude contacts of',
                    found=', '.join(names),
                    remedy='correct `exclude` of the scene file',
                )
        pairs |= {tuple(sorted(pair)) for pair in itertools.product(*groups) if pair[0] != pair[1]}
    if settings.srdf:
        # An SRDF may be of a variant that has more links than this one.
        pairs |= {pair for pair in disabled_pairs(folder / settings.srdf) if set(pair) <= set(names)}
    return pairs


def disabled_pairs(srdf: Path) -> set[tuple[str, str]]:
    """Read the pairs of links that an SRDF disables collisions of.

    Raises
    ------
    ModelError
        The file is absent or no SRDF.

    """
    try:
        root = ElementTree.parse(srdf).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise ModelError(
            expected=f'an SRDF at {srdf}', found=str(error), remedy='correct `srdf` of the scene file'
        ) from error
    if root.tag != 'robot':
        raise ModelError(
            expected=f'an SRDF at {srdf}', found=f'<{root.tag}>', remedy='correct `srdf` of the scene file'
        )
    found = root.findall('disable_collisions')
    return {tuple(sorted((each.get('link1', ''), each.get('link2', '')))) for each in found}


def _check_inertia(model: mujoco.MjModel, settings: SceneSettings, file: Path) -> None:
    """Refuse servos on joints that move nothing heavy: such a motion diverges, whatever the timestep."""
    light = [
        joint
        for servos in settings.servos
        for joint in servos.joints
        if model.body_subtreemass[model.jnt_bodyid[model.joint(joint).id]] < _LEAST_MASS
        and model.dof_armature[model.jnt_dofadr[model.joint(joint).id]] == 0
    ]
    if light:
        bodies = [model.body(model.jnt_bodyid[model.joint(joint).id]).name for joint in light]
        raise ModelError(
            expected=f'inertia of the links that {", ".join(light)} of {file} move',
            found=f'none in {", ".join(bodies)}',
            remedy='add <inertial> to them, an `armature` such as 0.1 to their servos, or set `missing_mass` [kg]',
        )


def _file(model: str, folder: Path) -> Path:
    path = model_path(model)
    return path if path.is_absolute() else folder / path


def _attach(spec: mujoco.MjSpec, attachment: Attachment, folder: Path) -> None:
    file = _file(attachment.model, folder)
    child = load_spec(file)
    site = next((site for site in spec.sites if site.name == attachment.to), None)
    try:
        if site is not None:
            spec.attach(child, site=site, prefix=attachment.prefix)
            return
        body = spec.worldbody if not attachment.to else spec.body(attachment.to)
        if body is None:
            raise ModelError(
                expected=f'a site or body {attachment.to} that carries {file}',
                found=', '.join(other.name for other in [*spec.sites, *spec.bodies] if other.name),
                remedy='name one of them',
            )
        spec.attach(child, frame=body.add_frame(pos=list(attachment.position)), prefix=attachment.prefix)
    except ValueError as error:
        raise ModelError(
            expected=f'names of {file} that are free with the prefix {attachment.prefix!r}',
            found=' '.join(str(error).split()),
            remedy='give the attachment another prefix',
        ) from error


def _equip(spec: mujoco.MjSpec, servos: Servos, file: Path) -> None:
    known = {joint.name: joint for joint in spec.joints}
    for name in servos.joints:
        if name not in known:
            raise ModelError(
                expected=f'a joint {name} in {file} for a servo',
                found=', '.join(filter(None, known)) or 'no joint',
                remedy='correct `servos` of the scene file',
            )
        for actuator in list(spec.actuators):
            if actuator.trntype == mujoco.mjtTrn.mjTRN_JOINT and actuator.target == name:
                spec.delete(actuator)
        added = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        added.set_to_position(kp=servos.stiffness, kv=servos.damping)
        if servos.force is not None:
            added.forcelimited, added.forcerange = True, [-servos.force, servos.force]
        if servos.armature is not None:
            known[name].armature = servos.armature
        if known[name].range[0] < known[name].range[1]:
            added.inheritrange = 1.0  # in whatever unit the model has angles


def _compensate(spec: mujoco.MjSpec, patterns: tuple[str, ...], file: Path) -> None:
    for pattern in patterns:
        bodies = [body for body in spec.bodies if body.name and fnmatch.fnmatchcase(body.name, pattern)]
        if not bodies:
            raise ModelError(
                expected=f'a body {pattern} in {file} to bear the weight of',
                found=', '.join(body.name for body in spec.bodies if body.name),
                remedy='correct `compensate_gravity` of the scene file',
            )
        for body in bodies:
            body.gravcomp = 1.0
