"""A task defined by a scene file: the base class for users' robots and tasks."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.common.share import model_path
from vdd_ros.contract.contract import NANOSECONDS, load_contract
from vdd_ros.sim.assembly import open_scene
from vdd_ros.sim.model import position_servos
from vdd_ros.sim.scene import load_scene
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.start import Start
from vdd_ros.sim.tasks.task import SuccessDetector, Task

_REQUIRED = ('name', 'scene', 'contract', 'detector')


class SceneTask(Task):
    """A task whose scene is a scene file (docs/simulation.md). Subclasses set class attributes.

    Joints, policy period and tool come from the contract. Controllers, sensors and cameras come from the scene file.
    Paths are relative to the file that defines the class.
    """

    scene: str | Path
    """Scene file (YAML). It must name a model."""
    contract: str
    """Contract of the policies: a file, or the name of a shipped contract."""
    detector: ClassVar[type[SuccessDetector]]
    """Class of the success detector; called without arguments for every episode."""
    time_limit: float = 20.0
    """Duration after which an episode fails by time-out [s]."""
    tool: str = ''
    """Site or body that is the tool point; default: `robot.tool` of the contract."""
    starts: tuple[str | Start, ...] = ()
    """Start states, in turn; default: `keyframe` and `start` of the scene file."""

    def __init__(self) -> None:
        """Read scene file and contract, and compile the scene.

        Raises
        ------
        ConfigurationError
            A class attribute is missing, the scene file has no model, or the policy period is not an integer number of
            physics steps.
        ContractError
            The contract is absent or malformed.
        ModelError
            The scene cannot be built, or lacks a joint, its servo, the tool, or a geom that the task names.

        """
        kind = type(self)
        missing = [name for name in _REQUIRED if not hasattr(kind, name)]
        if missing:
            raise ConfigurationError(
                expected=f'{", ".join(_REQUIRED)} as attributes of {kind.__name__}',
                found=f'no {", ".join(missing)}',
                remedy=f'set them in {inspect.getfile(kind)}; docs/tutorials/your_task.md has an example',
            )
        folder = Path(inspect.getfile(kind)).absolute().parent
        self.scene = folder / kind.scene
        self.contract = str(folder / kind.contract) if Path(kind.contract).suffix else kind.contract
        contract = load_contract(self.contract)
        self.period = contract.period
        self.joints = tuple(joint for each in contract.controllers if each.measured for joint in each.joints)
        self.tool = kind.tool or contract.robot.tool
        self.max_steps = math.ceil(self.time_limit * NANOSECONDS / self.period)
        self.settings, folder = load_scene(self.scene)
        if not self.settings.model:
            raise ConfigurationError(
                expected=f'a model in {self.scene}', found='none', remedy='add `model:`, an MJCF or URDF file'
            )
        self._whole = open_scene(self.settings, folder)
        model, servos = self._whole.model, position_servos(self._whole.model)
        self._servos = [servo for servo, _ in servos]
        self._held = [int(model.jnt_qposadr[joint]) for _, joint in servos]
        self.starts = kind.starts or (self._whole.home,)
        if self.period % self._whole.timestep:
            raise ConfigurationError(
                expected=f'a policy period that is a whole number of physics steps of {self._whole.timestep} ns',
                found=f'{self.period} ns ({contract.policy_rate:g} Hz)',
                remedy=f'change `timestep` in {self.scene}, or `policy_rate` in {self.contract}',
            )
        self._check()

    def _check(self) -> None:
        """Check everything that the task names, so that errors occur when it is loaded instead of within an episode."""
        simulation = self.simulation(self.joints)
        for start in self.starts:
            if isinstance(start, Start):
                start.check_limits(simulation.model, f'correct the start states of the task {self.name}')
        simulation.place(self.tool)
        simulation.geoms((*self.moving, *self.obstacles))
        self.judge(self.new_success_detector(), simulation)

    def simulation(self, joints: Sequence[str] | None = None) -> Simulation:
        """Return a new scene at its start state; by default with the joints of all its controllers."""
        whole = self._whole
        if joints is None:
            passive = [joint for joint in whole.joints if joint not in whole.commanded]
            simulation = Simulation(whole.shared_model, whole.joints, passive=passive, home=whole.home)
        else:
            simulation = Simulation(whole.shared_model, joints, home=whole.home)
        self.reset(simulation)
        return simulation

    def reset(self, simulation: Simulation, episode: int = 0) -> None:
        """Reset a scene to the start state of an episode. Servos that the policy does not command hold their joints."""
        super().reset(simulation, episode)
        simulation.data.ctrl[self._servos] = simulation.data.qpos[self._held]

    def new_success_detector(self) -> SuccessDetector:
        """Return a success detector for one episode."""
        return self.detector()

    def scene_files(self) -> dict[str, bytes]:
        """Return the contents of the scene file, its models, the files that these include, and their assets."""
        folder = self.scene.parent
        models = [self.settings.model, *(each.model for each in self.settings.attachments)]
        waiting = [path if (path := model_path(model)).is_absolute() else folder / path for model in models]
        if self.settings.srdf:
            waiting.append(folder / self.settings.srdf)
        files = {self.scene.name: self.scene.read_bytes()}
        while waiting:
            file = waiting.pop().resolve()
            if str(file) in files or not file.is_file():
                continue
            files[str(file)] = file.read_bytes()
            if file.suffix in ('.xml', '.urdf', '.srdf'):
                waiting += _named_files(file)
        # Names without folders, so that moving a scene does not change its hash.
        return {f'{number}/{Path(name).name}': files[name] for number, name in enumerate(files)}


def _named_files(file: Path) -> list[Path]:
    """Return the paths of files named by an MJCF or URDF, in all folders in which they are searched."""
    root = ElementTree.parse(file).getroot()
    named = [compiler.get(key) for compiler in root.iter('compiler') for key in ('assetdir', 'meshdir', 'texturedir')]
    folders = {file.parent, *(file.parent / folder for folder in named if folder)}
    names = [item.attrib[key] for item in root.iter() for key in ('file', 'filename') if key in item.attrib]
    return [folder / name.removeprefix('package://') for name in names for folder in sorted(folders)]
