"""Load MJCF and URDF files, and find elements of a compiled model by name."""

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
    """Read an MJCF or URDF file into an editable model.

    For URDF, visuals that MuJoCo cannot show are removed, and mimic joints become constraints. A collision mesh in
    Collada is replaced by an STL or OBJ file of the same name in the same folder.

    Parameters
    ----------
    file
        The file.
    without_collision
        Links of a URDF whose collision shapes are removed; ``*`` and ``?`` are wildcards.
    missing_mass
        Mass of moving URDF links without inertia [kg], as a ball of 5 cm radius; None: a negligible mass.

    Raises
    ------
    ModelError
        The file is missing or malformed (with the line), or a collision mesh cannot be read.

    """
    if not file.is_file():
        raise ModelError(
            expected=f'a scene at {file}',
            found='no such file',
            remedy='give the path of an MJCF or URDF file',
        )
    try:
        root = ElementTree.parse(file).getroot()
        if root.tag != 'robot':
            return mujoco.MjSpec.from_file(str(file))
        _leave_out_collisions(root, without_collision, file)
        if missing_mass is not None:
            _weigh(root, missing_mass)
        spec = mujoco.MjSpec.from_string(_readable_urdf(root, file))
        # Older MuJoCo releases ignore mimic joints; newer ones have created the constraint already.
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
    """Read and compile an MJCF or URDF file; errors as for `load_spec`."""
    return compiled(load_spec(file), file)


def compiled(spec: mujoco.MjSpec, file: Path) -> mujoco.MjModel:
    """Compile a model read from a file; raises `ModelError`."""
    try:
        with warnings.catch_warnings():
            # Relevant only for writing the model as XML.
            warnings.filterwarnings('ignore', message='Attaching a spec with an empty prefix')
            return spec.compile()
    except ValueError as error:
        raise malformed(file, error) from error


def malformed(file: Path, error: Exception) -> ModelError:
    """Return the error of a file that MuJoCo cannot load, with line and element."""
    return ModelError(
        expected=f'an MJCF or URDF scene in {file}', found=' '.join(str(error).split()), remedy='correct the file'
    )


def names(model: mujoco.MjModel, kind: mujoco.mjtObj) -> list[str]:
    """Return the names of all elements of a kind in the order of their indices; empty for unnamed elements."""
    count = getattr(model, _COUNTS[_label(kind)])
    return [mujoco.mj_id2name(model, kind, index) or '' for index in range(count)]


def find(model: mujoco.MjModel, kind: mujoco.mjtObj, name: str) -> int:
    """Return the index of an element by name; errors as for `find_either`."""
    return find_either(model, (kind,), name)[1]


def find_either(model: mujoco.MjModel, kinds: Sequence[mujoco.mjtObj], name: str) -> tuple[mujoco.mjtObj, int]:
    """Return kind and index of the first element with a name, in the order of the kinds.

    Raises
    ------
    ModelError
        There is no such element; the message lists the existing names.

    """
    for kind in kinds:
        if (index := mujoco.mj_name2id(model, kind, name)) >= 0:
            return kind, index
    raise _unknown(model, name, *kinds)


def matching(model: mujoco.MjModel, kind: mujoco.mjtObj, patterns: Sequence[str]) -> list[int]:
    """Return the indices of elements whose names match one of the patterns; ``*`` also matches unnamed elements.

    Raises
    ------
    ModelError
        A pattern has no match.

    """
    known = names(model, kind)
    found = {pattern: {i for i, name in enumerate(known) if fnmatch.fnmatchcase(name, pattern)} for pattern in patterns}
    for pattern, indices in found.items():
        if not indices and pattern != '*':
            raise _unknown(model, pattern, kind)
    return sorted(set().union(*found.values()))


def position_servos(model: mujoco.MjModel) -> list[tuple[int, int]]:
    """Return the indices of every position servo and its joint."""
    found = []
    for actuator in range(model.nu):
        moves_joint = model.actuator_trntype[actuator] == int(mujoco.mjtTrn.mjTRN_JOINT)
        gain, bias = model.actuator_gainprm[actuator, 0], model.actuator_biasprm[actuator, 1]
        if moves_joint and gain > 0 and bias == -gain:
            found.append((actuator, int(model.actuator_trnid[actuator, 0])))
    return found


def servo_of(model: mujoco.MjModel, joint: int) -> int:
    """Return the index of the position servo of a joint.

    Raises
    ------
    ModelError
        The joint has no position servo.

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


def _unknown(model: mujoco.MjModel, name: str, *kinds: mujoco.mjtObj) -> ModelError:
    found = {_label(kind): ', '.join(filter(None, names(model, kind))) or 'none' for kind in kinds}
    label = ' or '.join(found)
    single = len(found) == 1
    return ModelError(
        expected=f'a {label} {name} in the scene',
        found=found[label] if single else ', '.join(f'{kind}: {known}' for kind, known in found.items()),
        remedy=f'use an existing {label}; names of an attachment begin with its prefix',
    )


def _readable_urdf(root: ElementTree.Element, file: Path) -> str:
    """Return a URDF that MuJoCo can read: links and joints, with absolute mesh paths."""
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
    # A link on a fixed joint would be merged; a link without mass would not compile.
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
    """Return the moving links of a URDF that have no inertia, including links fixed to them."""
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
    """Return the path of a readable mesh, or of one with the same name beside it; None if there is none."""
    if name.lower().endswith('.dae'):
        others = (_mesh_path(name[:-4] + suffix, file) for suffix in ('.stl', '.STL', '.obj'))
        return next((path for path in others if path is not None), None)
    if not name.lower().endswith(_MESHES):
        return None
    relative = name.partition('://')[2] if '://' in name else name
    folders = [file.parent, *file.resolve().parents] if name.startswith('package://') else [file.parent]
    candidates = [folder / relative for folder in folders]
    # The folder of a package may have another name after cloning.
    if name.startswith('package://'):
        candidates += [folder / relative.partition('/')[2] for folder in folders]
    return next((path.resolve() for path in candidates if path.is_file()), None)
