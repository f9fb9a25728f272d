"""Read the parts of a URDF that affect motion."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from vdd_ros.common.errors import ModelError


class Mimic(NamedTuple):
    """The leader of a joint: its value is ``multiplier`` times that of ``leader``, plus ``offset`` [rad]."""

    leader: str
    multiplier: float
    offset: float


def mimics(root: ElementTree.Element, file: Path) -> dict[str, Mimic]:
    """Return the leader of each joint with a ``<mimic>``.

    Raises
    ------
    ModelError
        An attribute of a ``<mimic>`` is missing or not a number.

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
    """Return whether an XML file is a URDF; raises the errors of ElementTree for invalid XML."""
    return ElementTree.parse(file).getroot().tag == 'robot'


def model_frame(file: Path) -> str:
    """Return the name of the frame of a robot model in the transforms: the root link of a URDF, `world` of an MJCF."""
    root = ElementTree.parse(file).getroot()
    if root.tag != 'robot':
        return 'world'
    children = {child.get('link', '') for child in root.iter('child')}
    return next((link.get('name', '') for link in root.findall('link') if link.get('name') not in children), 'world')


def bare_urdf(file: Path) -> str:
    """Return the links and joints of a URDF only, since mesh packages may be missing."""
    root = ElementTree.parse(file).getroot()
    for child in list(root):
        if child.tag not in ('link', 'joint'):
            root.remove(child)
    for link in root.iter('link'):
        for part in list(link):
            if part.tag != 'inertial':
                link.remove(part)
    # A link on a fixed joint, such as the tool, would be merged; a link without mass would not compile.
    compiler = {'fusestatic': 'false', 'balanceinertia': 'true', 'boundmass': '1e-6', 'boundinertia': '1e-9'}
    ElementTree.SubElement(ElementTree.SubElement(root, 'mujoco'), 'compiler', compiler)
    return ElementTree.tostring(root, encoding='unicode')
