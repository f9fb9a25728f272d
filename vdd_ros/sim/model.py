"""Models by name: MJCF and URDF files, and where in a compiled model a thing of some name is."""

from __future__ import annotations

import fnmatch
import warnings
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import mujoco

from vdd_ros.common.errors import ModelError

_MESHES = ('.stl', '.obj', '.msh')
_BALL = 0.05
_COUNTS = {
    'joint': 'njnt',
    'key': 'nkey',
    'site': 'nsite',
    'geom': 'ngeom',
    'camera': 'ncam',
    'body': 'nbody',
    'actuator': 'nu',
}


def load_spec(file: Path, *, without_collision: Sequence[str] = (), missing_mass: float | None = None) -> mujoco.MjSpec:
    """Read a MJCF or URDF file into a model that can still be changed.

    Of a URDF, visuals that MuJoCo cannot show are left out, and joints that mimic another follow it by a constraint. A
    collision mesh in Collada counts as the STL or OBJ file of the same name beside it.

    Parameters
    ----------
    file
        The file.
    without_collision
        Links of a URDF whose collision shapes are left out; ``*`` and ``?`` stand for any characters.
    missing_mass
        Mass of each moving link of a URDF that has no inertia [kg], as a ball of 5 cm radius; None: next to none.

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
        _leave_out_collisions(root, without_collision, file)
        if missing_mass is not None:
            _weigh(root, missing_mass)
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
    except ModelError:
        raise
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
        expected=f'an MJCF or URDF scene in {file}', found=' '.join(str(error).split()), remedy='correct the file'
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


def position_servos(model: mujoco.MjModel) -> list[tuple[int, int]]:
    """Return the indices of every position servo and of its joint."""
    found = []
    for actuator in range(model.nu):
        moves_joint = model.actuator_trntype[actuator] == int(mujoco.mjtTrn.mjTRN_JOINT)
        gain, bias = model.actuator_gainprm[actuator, 0], model.actuator_biasprm[actuator, 1]
        if moves_joint and gain > 0 and bias == -gain:
            found.append((actuator, int(model.actuator_trnid[actuator, 0])))
    return found


def servo_of(model: mujoco.MjModel, joint: int) -> int:
    """Return the index of the position servo on a joint.

    Raises
    ------
    ModelError
        It has none.

    """
    for actuator, moved in position_servos(model):
        if moved == joint:
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
                    break
                else:
                    raise ModelError(
                        expected=f'a collision mesh of link {link.get("name")} of {file} as {", ".join(_MESHES)}',
                        found=mesh.get('filename', 'no filename'),
                        remedy=_mesh_remedy(mesh.get('filename', ''), link.get('name', '')),
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


def massless(root: ElementTree.Element) -> list[str]:
    """Return the links of a URDF that a joint moves, and neither they nor what is fixed to them has an inertia."""
    fixed: dict[str, list[str]] = {}
    moved = []
    for joint in root.findall('joint'):
        child, parent = (joint.find(tag).get('link', '') for tag in ('child', 'parent'))
        if joint.get('type') == 'fixed':
            fixed.setdefault(parent, []).append(child)
        else:
            moved.append(child)
    heavy = {link.get('name') for link in root.findall('link') if link.find('inertial') is not None}

    def weighs(link: str) -> bool:
        return link in heavy or any(weighs(other) for other in fixed.get(link, ()))

    return [link for link in moved if not weighs(link)]


def _weigh(root: ElementTree.Element, mass: float) -> None:
    links = {link.get('name'): link for link in root.findall('link')}
    inertia = f'{0.4 * mass * _BALL**2:.9g}'
    for name in massless(root):
        inertial = ElementTree.SubElement(links[name], 'inertial')
        ElementTree.SubElement(inertial, 'mass', value=f'{mass:.9g}')
        moments = dict.fromkeys(('ixx', 'iyy', 'izz'), inertia) | dict.fromkeys(('ixy', 'ixz', 'iyz'), '0')
        ElementTree.SubElement(inertial, 'inertia', moments)


def _leave_out_collisions(root: ElementTree.Element, patterns: Sequence[str], file: Path) -> None:
    links = {link.get('name', ''): link for link in root.findall('link')}
    for pattern in patterns:
        matched = fnmatch.filter(links, pattern)
        if not matched:
            raise ModelError(
                expected=f'a link {pattern} in {file}',
                found=', '.join(links) or 'no link',
                remedy='correct `without_collision` of the scene file',
            )
        for name in matched:
            for part in links[name].findall('collision'):
                links[name].remove(part)


def _mesh_remedy(name: str, link: str) -> str:
    skip = f'set `without_collision: [{link}]` in the scene file'
    if name.lower().endswith(_MESHES):
        return f'put the package of the mesh beside the file or above it, or {skip}'
    return f'convert the mesh to STL beside it, or {skip}'


def _mesh_path(name: str, file: Path) -> Path | None:
    """Return where a mesh is that MuJoCo can read, or the one beside it of the same name; None if there is none."""
    if name.lower().endswith('.dae'):
        others = (_mesh_path(name[:-4] + suffix, file) for suffix in ('.stl', '.STL', '.obj'))
        return next((path for path in others if path is not None), None)
    if not name.lower().endswith(_MESHES):
        return None
    relative = name.partition('://')[2] if '://' in name else name
    folders = [file.parent, *file.resolve().parents] if name.startswith('package://') else [file.parent]
    candidates = [folder / relative for folder in folders]
    # A package's own folder need not bear its name where it was cloned.
    if name.startswith('package://'):
        candidates += [folder / relative.partition('/')[2] for folder in folders]
    return next((path.resolve() for path in candidates if path.is_file()), None)
