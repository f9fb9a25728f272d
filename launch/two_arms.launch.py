"""Two arms, each with a policy of its own in a namespace of its own: real under ros2_control, or simulated.

Simulated, it takes part in the ROS domain of the terminal, which must not be that of a robot. Each arm then has its
own clock and its own tf, in its namespace.
"""

from typing import Any

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.conditions import IfCondition, UnlessCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

SIDES = ('left', 'right')
COMMON = ('operating_mode', 'dashboard', 'dashboard_token_file', 'log_level')
REAL = ('command_interface', 'autostart', 'override_name', 'override_reason')
SIMULATED = ('task', 'scene', 'disturbances', 'mode', 'speed')
SHARE = FindPackageShare('vdd_ros')
POLICY = PathJoinSubstitution([SHARE, 'config', 'policy.yaml'])


def _arguments_of(side: str) -> tuple[DeclareLaunchArgument, ...]:
    return (
        DeclareLaunchArgument(side, default_value=side, description=f'Namespace of the {side} arm.'),
        DeclareLaunchArgument(f'{side}_model_path', description=f'Folder of the artifact for the {side} arm.'),
        DeclareLaunchArgument(
            f'{side}_contract_file',
            default_value='avoiding_cartesian',
            description='Contract that the artifact must have been trained under.',
        ),
        DeclareLaunchArgument(
            f'{side}_robot_contract',
            default_value='',
            description='Contract whose topics, joint names, units and controllers it has, if simulated.',
        ),
        DeclareLaunchArgument(
            f'{side}_params_file',
            default_value=POLICY,
            description='Parameters of its policy node, if it is real; or of config/robots.',
        ),
        DeclareLaunchArgument(
            f'{side}_report',
            default_value='',
            description='Report of its validation, if it is real; empty: beside the artifact.',
        ),
        DeclareLaunchArgument(
            f'{side}_controller',
            default_value='arm_controller',
            description='Its controller; takes NAME/commands in its namespace.',
        ),
        DeclareLaunchArgument(
            f'{side}_seed', default_value='0', description='Draws its disturbances, if it is simulated.'
        ),
        DeclareLaunchArgument(
            f'{side}_dashboard_port',
            default_value=str(8600 + SIDES.index(side)),
            description='Port of its web page.',
        ),
    )


ARGUMENTS = (
    DeclareLaunchArgument(
        'simulated',
        default_value='false',
        description='true: in MuJoCo; false: arms of this ROS domain.',
    ),
    *(argument for side in SIDES for argument in _arguments_of(side)),
    DeclareLaunchArgument(
        'operating_mode',
        default_value='slow',
        choices=['shadow', 'slow', 'full'],
        description='shadow: infer and compare, never command; slow: a share of the speed; full.',
    ),
    DeclareLaunchArgument(
        'command_interface',
        default_value='position',
        choices=['position', 'trajectory', 'follow_joint_trajectory'],
        description='Of real arms. position: NAME/commands; trajectory: NAME/joint_trajectory; '
        'follow_joint_trajectory: the action.',
    ),
    DeclareLaunchArgument('autostart', default_value='false', description='Configure and activate real arms at once.'),
    DeclareLaunchArgument('override_name', default_value='', description='Who answers for artifacts that do not pass.'),
    DeclareLaunchArgument('override_reason', default_value='', description='Why; both are logged and kept.'),
    DeclareLaunchArgument('task', default_value='avoiding', description='Task that is simulated and judged.'),
    DeclareLaunchArgument('scene', default_value='', description='Scene file of simulated arms, or one that ships.'),
    DeclareLaunchArgument(
        'disturbances',
        default_value='',
        description='Noise, latency, loss, other worlds: a YAML file or a scenario.',
    ),
    DeclareLaunchArgument(
        'mode',
        default_value='realtime',
        choices=['lockstep', 'realtime', 'fast'],
        description='realtime: by the wall clock; lockstep: one policy period per command; fast: unpaced.',
    ),
    DeclareLaunchArgument('speed', default_value='1.0', description='Simulated seconds per second, realtime.'),
    DeclareLaunchArgument(
        'dashboard', default_value='false', description='true: serve a web page of each arm on this machine.'
    ),
    DeclareLaunchArgument(
        'dashboard_token_file',
        default_value='',
        description='File with the token for buttons, created if absent; empty: the pages are read-only.',
    ),
    DeclareLaunchArgument('log_level', default_value='info', description='debug, info, warn, error or fatal.'),
)


def generate_launch_description() -> LaunchDescription:
    """Describe the arguments, and include one launch file for each arm."""
    return LaunchDescription(
        [
            *ARGUMENTS,
            *(_group(IfCondition(LaunchConfiguration('simulated')), _simulated(side)) for side in SIDES),
            *(_group(UnlessCondition(LaunchConfiguration('simulated')), _real(side)) for side in SIDES),
        ]
    )


def _group(condition: IfCondition | UnlessCondition, included: IncludeLaunchDescription) -> GroupAction:
    """Include a file in a scope of its own: what it is given cannot be set from outside, and is not shown."""
    configurations = {argument.name: LaunchConfiguration(argument.name) for argument in ARGUMENTS}
    return GroupAction([included], forwarding=False, launch_configurations=configurations, condition=condition)


def _simulated(side: str) -> IncludeLaunchDescription:
    of_side = ('model_path', 'contract_file', 'robot_contract', 'controller', 'seed', 'dashboard_port')
    shared = {name: LaunchConfiguration(name) for name in (*COMMON, *SIMULATED)}
    return _included('closed_loop', side, {**shared, **_of(side, *of_side), 'autostart': 'true', 'output': ''})


def _real(side: str) -> IncludeLaunchDescription:
    of_side = ('model_path', 'contract_file', 'controller', 'params_file', 'report', 'dashboard_port')
    shared = {name: LaunchConfiguration(name) for name in (*COMMON, *REAL)}
    return _included('policy', side, {**shared, **_of(side, *of_side), 'use_sim_time': 'false'})


def _included(name: str, side: str, arguments: dict[str, Any]) -> IncludeLaunchDescription:
    """Include a launch file in the namespace of one arm."""
    source = PythonLaunchDescriptionSource(PathJoinSubstitution([SHARE, 'launch', f'{name}.launch.py']))
    arguments = {**arguments, 'namespace': LaunchConfiguration(side)}
    return IncludeLaunchDescription(source, launch_arguments=arguments.items())


def _of(side: str, *names: str) -> dict[str, LaunchConfiguration]:
    """Return the arguments of one side, by the names that they have in its own launch file."""
    return {name: LaunchConfiguration(f'{side}_{name}') for name in names}
