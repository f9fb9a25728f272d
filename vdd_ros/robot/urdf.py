"""URDF as text: what of it a computation of motion needs."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from vdd_ros.common.errors import ModelError


class Mimic(NamedTuple):
    """What a joint follows: ``multiplier`` times the value of ``leader``, plus ``offset`` [rad]."""

    leader: str
    multiplier: float
    offset: float


def mimics(root: ElementTree.Element, file: Path) -> dict[str, Mimic]:
    """Return what each joint with a ``<mimic>`` follows.

    Raises
    ------
    ModelError
        An attribute of a ``<mimic>`` is absent or no number.

    """
    found = {}
    for joint in root.findall('joint'):
        mimic = joint.find('mimic')
        if mimic is None:
            continue
        try:
            numbers = float(mimic.get('multiplier', 1.0)), float(mimic.get('offset', 0.0))
            found[joint.get('name', '')] = Mimic(mimic.attrib['joint'], *numbers)
        except (KeyError, ValueError) as error:
            raise ModelError(
                expected=f'a joint, and numbers for multiplier and offset, in <mimic> of {joint.get("name")} in {file}',
                found=str(mimic.attrib),
                remedy='correct the URDF',
            ) from error
    return found


def is_urdf(file: Path) -> bool:
    """Tell whether a file of XML is a URDF; raise what ElementTree raises of one that is no XML."""
    return ElementTree.parse(file).getroot().tag == 'robot'


def bare_urdf(file: Path) -> str:
    """Return the links and joints of a URDF alone: meshes lie in packages that may not be there."""
    root = ElementTree.parse(file).getroot()
    for child in list(root):
        if child.tag not in ('link', 'joint'):
            root.remove(child)
    for link in root.iter('link'):
        for part in list(link):
            if part.tag != 'inertial':
                link.remove(part)
    # A link that a fixed joint holds would be merged away, and the tool with it; one without mass would not compile.
    compiler = {'fusestatic': 'false', 'balanceinertia': 'true', 'boundmass': '1e-6', 'boundinertia': '1e-9'}
    ElementTree.SubElement(ElementTree.SubElement(root, 'mujoco'), 'compiler', compiler)
    return ElementTree.tostring(root, encoding='unicode')
