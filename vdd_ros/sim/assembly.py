"""Builds the scene of a file: a model, what is mounted on it, and the servos that it lacks."""

from __future__ import annotations

import fnmatch
from pathlib import Path

import mujoco

from vdd_ros.errors import ModelError
from vdd_ros.share import model_path
from vdd_ros.sim.model import compiled, load_spec
from vdd_ros.sim.scene import Attachment, Gripper, SceneSettings, Servos
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.start import Start


def open_scene(settings: SceneSettings, folder: Path) -> Simulation:
    """Build the scene of a file at its start.

    The simulation's joints are those of the position and trajectory controllers, then those of `joint_states`.

    Raises
    ------
    ModelError
        A model is absent or malformed, or lacks what the scene file names.

    """
    file = _file(settings.model, folder)
    spec = load_spec(file)
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
    model = compiled(spec, file)
    moved = [joint for each in settings.controllers.values() if not isinstance(each, Gripper) for joint in each.joints]
    joints = list(dict.fromkeys([*moved, *settings.joint_states]))
    passive = [joint for joint in joints if joint not in moved]
    return Simulation(model, joints, passive=passive, home=Start(settings.keyframe, settings.start))


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
                remedy='mend `servos` of the scene file',
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
                remedy='mend `compensate_gravity` of the scene file',
            )
        for body in bodies:
            body.gravcomp = 1.0
