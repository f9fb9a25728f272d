"""Models by name: MJCF and URDF files, and where in a compiled model a thing of some name is."""

from __future__ import annotations

import fnmatch
import warnings
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import mujoco

from vdd_ros.errors import ModelError

_MESHES = ('.stl', '.obj', '.msh')
_COUNTS = {
    'joint': 'njnt',
    'key': 'nkey',
    'site': 'nsite',
    'geom': 'ngeom',
    'camera': 'ncam',
    'body': 'nbody',
    'actuator': 'nu',
}


def load_spec(file: Path) -> mujoco.MjSpec:
    """Read a MJCF or URDF file into a model that can still be changed.

    Of a URDF, visuals that MuJoCo cannot show are left out, and joints that mimic another follow it by a constraint.

    Raises
    ------
    ModelError
        The file is absent or malformed (the line is named), or a collision mesh cannot be read.

    """
    if not file.is_file():
        raise ModelError(
            expected=f'a scene at {file}', found='no such file', remedy='give the path of an MJCF or URDF file'
        )
    try:
        root = ElementTree.parse(file).getroot()
        if root.tag != 'robot':
            return mujoco.MjSpec.from_file(str(file))
        spec = mujoco.MjSpec.from_string(_readable_urdf(root, file))
        # Older releases of MuJoCo pass over what mimics; newer ones have made the constraint by now.
        bound = {equality.name1 for equality in spec.equalities}
        for joint in root.findall('joint'):
            if (mimic := joint.find('mimic')) is not None and joint.get('name') not in bound:
                line = [float(mimic.get('offset', 0)), float(mimic.get('multiplier', 1))]
                line += [0.0] * (mujoco.mjNEQDATA - len(line))
                kind = mujoco.mjtEq.mjEQ_JOINT
                spec.add_equality(type=kind, name1=joint.get('name'), name2=mimic.get('joint'), data=line)
        return spec
    except (ValueError, ElementTree.ParseError) as error:
        raise malformed(file, error) from error


def load_model(file: Path) -> mujoco.MjModel:
    """Read and compile a MJCF or URDF file; errors as those of `load_spec`."""
    return compiled(load_spec(file), file)


def compiled(spec: mujoco.MjSpec, file: Path) -> mujoco.MjModel:
    """Compile what was read from a file; what it lacks is a `ModelError`."""
    try:
        with warnings.catch_warnings():
            # Concerns who would write the model as XML.
            warnings.filterwarnings('ignore', message='Attaching a spec with an empty prefix')
            return spec.compile()
    except ValueError as error:
        raise malformed(file, error) from error


def malformed(file: Path, error: Exception) -> ModelError:
    """Return the error of a file that MuJoCo cannot make a model of; its words name line and element."""
    return ModelError(
        expected=f'an MJCF or URDF scene in {file}', found=' '.join(str(error).split()), remedy='mend the file'
    )


def names(model: mujoco.MjModel, kind: mujoco.mjtObj) -> list[str]:
    """Return the names of all things of a kind by index; the unnamed are empty."""
    count = getattr(model, _COUNTS[_label(kind)])
    return [mujoco.mj_id2name(model, kind, index) or '' for index in range(count)]


def find(model: mujoco.MjModel, kind: mujoco.mjtObj, name: str) -> int:
    """Return the index of a thing by name.

    Raises
    ------
    ModelError
        There is none; the names that there are stand in the message.

    """
    index = mujoco.mj_name2id(model, kind, name)
    if index < 0:
        raise _unknown(model, kind, name)
    return index


def matching(model: mujoco.MjModel, kind: mujoco.mjtObj, patterns: Sequence[str]) -> list[int]:
    """Return the indices of the things whose names match one of some shell patterns; ``*`` matches the unnamed too.

    Raises
    ------
    ModelError
        A pattern matches nothing.

    """
    known = names(model, kind)
    found = {pattern: {i for i, name in enumerate(known) if fnmatch.fnmatchcase(name, pattern)} for pattern in patterns}
    for pattern, indices in found.items():
        if not indices and pattern != '*':
            raise _unknown(model, kind, pattern)
    return sorted(set().union(*found.values()))


def servo_of(model: mujoco.MjModel, joint: int) -> int:
    """Return the index of the position servo on a joint.

    Raises
    ------
    ModelError
        It has none.

    """
    for actuator in range(model.nu):
        moves_joint = model.actuator_trntype[actuator] == int(mujoco.mjtTrn.mjTRN_JOINT)
        gain, bias = model.actuator_gainprm[actuator, 0], model.actuator_biasprm[actuator, 1]
        if moves_joint and model.actuator_trnid[actuator, 0] == joint and gain > 0 and bias == -gain:
            return actuator
    name = model.joint(joint).name
    raise ModelError(
        expected=f'a position servo on joint {name}',
        found='none',
        remedy=f'add <position joint="{name}" kp="..."/> to the model, or the joint to `servos` of the scene file',
    )


def _label(kind: mujoco.mjtObj) -> str:
    return kind.name.removeprefix('mjOBJ_').lower()


def _unknown(model: mujoco.MjModel, kind: mujoco.mjtObj, name: str) -> ModelError:
    label = _label(kind)
    return ModelError(
        expected=f'a {label} {name} in the scene',
        found=', '.join(filter(None, names(model, kind))) or 'none',
        remedy=f'use the name of a {label} that is there',
    )


def _readable_urdf(root: ElementTree.Element, file: Path) -> str:
    """Return a URDF that MuJoCo can read: its links and joints, with meshes by absolute path."""
    for child in list(root):
        if child.tag not in ('link', 'joint', 'material'):
            root.remove(child)
    for link in root.iter('link'):
        for part in list(link):
            for mesh in part.iter('mesh'):
                path = _mesh_path(mesh.get('filename', ''), file)
                if path is not None:
                    mesh.set('filename', str(path))
                elif part.tag == 'visual':
                    link.remove(part)
                else:
                    raise ModelError(
                        expected=f'a collision mesh of link {link.get("name")} of {file} as {", ".join(_MESHES)}',
                        found=mesh.get('filename', 'no filename'),
                        remedy='put the package of the mesh beside the file or above it, or convert the mesh',
                    )
    # A link that a fixed joint holds would be merged away; one without mass would not compile.
    compiler = {
        'fusestatic': 'false',
        'strippath': 'false',
        'discardvisual': 'false',
        'balanceinertia': 'true',
        'boundmass': '1e-6',
        'boundinertia': '1e-9',
    }
    for old in root.findall('mujoco'):
        root.remove(old)
    ElementTree.SubElement(ElementTree.SubElement(root, 'mujoco'), 'compiler', compiler)
    return ElementTree.tostring(root, encoding='unicode')


def _mesh_path(name: str, file: Path) -> Path | None:
    if not name.lower().endswith(_MESHES):
        return None
    relative = name.partition('://')[2] if '://' in name else name
    folders = [file.parent, *file.resolve().parents] if name.startswith('package://') else [file.parent]
    candidates = [folder / relative for folder in folders]
    # A package's own folder need not bear its name where it was cloned.
    if name.startswith('package://'):
        candidates += [folder / relative.partition('/')[2] for folder in folders]
    return next((path.resolve() for path in candidates if path.is_file()), None)
