"""Build the scene of a scene file: model, attachments, and missing servos."""

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
"""Minimum mass moved by a servo without armature [kg]: far above the mass that MuJoCo gives to massless links."""


def open_scene(settings: SceneSettings, folder: Path) -> Simulation:
    """Build the scene of a file in its start state.

    The joints of the simulation are those of the position and trajectory controllers, then those of `joint_states`.

    Raises
    ------
    ModelError
        A model is missing or malformed, or lacks an element named in the scene file.

    """
    file = _file(settings.model, folder)
    spec = load_spec(file, without_collision=settings.without_collision, missing_mass=settings.missing_mass)
    links = [body.name for body in spec.bodies if body.name] if is_urdf(file) else []
    for attachment in settings.attachments:
        _attach(spec, attachment, folder)
    for servos in settings.servos:
        _equip(spec, servos, file)
    if settings.servos and spec.option.integrator == int(mujoco.mjtIntegrator.mjINT_EULER):
        # Euler integration uses the servo damping of the previous step, which makes light links oscillate.
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
    home.check_limits(model, 'correct `start` of the scene file, or the limits in the model')
    moved = [joint for each in settings.controllers.values() if not isinstance(each, Gripper) for joint in each.joints]
    joints = list(dict.fromkeys([*moved, *settings.joint_states]))
    passive = [joint for joint in joints if joint not in moved]
    return Simulation(model, joints, passive=passive, home=home)


def touching_pairs(model: mujoco.MjModel, links: Sequence[str], start: Start) -> set[tuple[str, str]]:
    """Return the pairs of links of one robot that touch by design: their contacts would block its joints.

    These are links connected by one joint, including links fixed to either of them (MuJoCo excludes them itself, except
    if one of the two is static), and links that touch at the start (`Default` in an SRDF).
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
    """Return the pairs of bodies excluded by the scene file or its SRDF."""
    names = [body.name for body in spec.bodies if body.name]
    pairs = set()
    for patterns in settings.exclude:
        groups = [fnmatch.filter(names, pattern) for pattern in patterns]
        for pattern, group in zip(patterns, groups):
            if not group:
                raise ModelError(
                    expected=f'a body {pattern} in {file} for `exclude`',
                    found=', '.join(names),
                    remedy='correct `exclude` of the scene file',
                )
        pairs |= {tuple(sorted(pair)) for pair in itertools.product(*groups) if pair[0] != pair[1]}
    if settings.srdf:
        # The SRDF may belong to a variant with more links.
        pairs |= {pair for pair in disabled_pairs(folder / settings.srdf) if set(pair) <= set(names)}
    return pairs


def disabled_pairs(srdf: Path) -> set[tuple[str, str]]:
    """Read the pairs of links whose collisions are disabled in an SRDF.

    Raises
    ------
    ModelError
        The file is missing or not an SRDF.

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
    """Check the inertia moved by servos: without it the simulation diverges at any timestep."""
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
            expected=f'inertia of the links moved by {", ".join(light)} of {file}',
            found=f'none in {", ".join(bodies)}',
            remedy='add <inertial> to these links or `armature` (such as 0.1) to the servos, or set `missing_mass`',
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
                expected=f'a site or body {attachment.to} to attach {file} to',
                found=', '.join(other.name for other in [*spec.sites, *spec.bodies] if other.name),
                remedy='use one of these names',
            )
        spec.attach(child, frame=body.add_frame(pos=list(attachment.position)), prefix=attachment.prefix)
    except ValueError as error:
        raise ModelError(
            expected=f'unique names of {file} with the prefix {attachment.prefix!r}',
            found=' '.join(str(error).split()),
            remedy='choose another prefix for the attachment',
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
            added.inheritrange = 1.0  # in the angle unit of the model


def _compensate(spec: mujoco.MjSpec, patterns: tuple[str, ...], file: Path) -> None:
    for pattern in patterns:
        bodies = [body for body in spec.bodies if body.name and fnmatch.fnmatchcase(body.name, pattern)]
        if not bodies:
            raise ModelError(
                expected=f'a body {pattern} in {file} for gravity compensation',
                found=', '.join(body.name for body in spec.bodies if body.name),
                remedy='correct `compensate_gravity` of the scene file',
            )
        for body in bodies:
            body.gravcomp = 1.0
