"""The parameters of the bridge."""

from __future__ import annotations

from vdd_ros.nodes.parameters import STRINGS, Parameter

PARAMETERS = (
    Parameter(
        'task',
        'avoiding',
        'task to simulate: a name, an entry point, FILE.py or MODULE:ATTRIBUTE; unused if the scene file names a model',
        path=True,
    ),
    Parameter(
        'scene', '', 'scene file: any robot, its controllers, sensors and cameras; a file, or one that ships', path=True
    ),
    Parameter(
        'mode',
        'lockstep',
        'lockstep: one policy period per accepted command, as fast as the commander; realtime: by the wall clock; '
        'fast: as fast as the machine, whoever commands',
        choices=('lockstep', 'realtime', 'fast'),
    ),
    Parameter(
        'speed', 1.0, 'simulated seconds per second, in realtime mode', minimum=0.01, maximum=100.0, dynamic=True
    ),
    Parameter(
        'clock',
        'simulation',
        'whose time stamps what is published. simulation: that of the scene, published on /clock; wall: that of the '
        'computer, as drivers of real arms do, for nodes without use_sim_time; in realtime mode at speed 1 only',
        choices=('simulation', 'wall'),
    ),
    Parameter(
        'contract',
        '',
        'contract whose topics, joint names and units the simulated arm has; empty: those of the model. If it has '
        'several controllers, and neither task nor scene file has any, they are simulated',
        path=True,
    ),
    Parameter(
        'joint_state_rate',
        200.0,
        'joint states per simulated second [Hz], and updates of the controllers; rounded to a whole number per policy '
        'period',
        minimum=1.0,
        maximum=10_000.0,
    ),
    Parameter(
        'command_rate',
        0.0,
        'how often a commander answers in lockstep mode [Hz], rounded to a whole number of joint states; 0: once per '
        'policy period',
        minimum=0.0,
        maximum=10_000.0,
    ),
    Parameter(
        'controller', 'arm_controller', 'name of the controller of a task; commands come on NAME/...', topic=True
    ),
    Parameter(
        'command_interface',
        'position',
        'what that controller takes: NAME/commands (position) or NAME/joint_trajectory (trajectory)',
        choices=('position', 'trajectory'),
    ),
    Parameter(
        'lockstep_controllers',
        STRINGS,
        'controllers that all must be commanded for a period; default: all of a contract with several, else the first '
        'arm',
        topic=True,
    ),
    Parameter(
        'step_timeout',
        1.0,
        'silence of the commander in lockstep mode after which on_silence applies [s]',
        minimum=0.01,
        maximum=3600.0,
    ),
    Parameter(
        'on_silence',
        'wait',
        'wait: publish the last state again; go_on: simulate a period with the last command',
        choices=('wait', 'go_on'),
    ),
    Parameter(
        'disturbances',
        '',
        'noise, latency, loss, other worlds: a YAML file, or a scenario; empty: none',
        path=True,
        former_name='trouble',
    ),
    Parameter(
        'seed',
        0,
        'draws all disturbances; setting it numbers the episodes from 0 again',
        minimum=0,
        maximum=2**31 - 1,
        dynamic=True,
    ),
    Parameter(
        'time_limit',
        1.0,
        'time that an episode may take, as a multiple of the time limit of the task',
        minimum=0.01,
        maximum=1000.0,
    ),
    Parameter('keyframe', '', 'keyframe that resets lead to; empty: the default start', dynamic=True),
    Parameter(
        'step_count', 1, 'number of joint states by which ~/step advances', minimum=1, maximum=1_000_000, dynamic=True
    ),
)
