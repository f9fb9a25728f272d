"""A policy and the simulated arm that it commands, in the ROS domain of the terminal, which must be without robots."""

from typing import Any

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, PythonExpression
from launch_ros.actions import Node, SetRemap
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from vdd_ros.nodes.launching import ending_with

SHARE = FindPackageShare('vdd_ros')
DASHBOARD = ('dashboard', 'dashboard_port', 'dashboard_token_file')
ARGUMENTS = (
    DeclareLaunchArgument('model_path', description='Folder of the policy artifact.'),
    DeclareLaunchArgument(
        'contract_file',
        default_value='avoiding_cartesian',
        description='Contract of the artifact, whose topics are recorded.',
    ),
    DeclareLaunchArgument(
        'task',
        default_value='avoiding',
        description='Task: a name, an entry point, FILE.py or MODULE:ATTRIBUTE.',
    ),
    DeclareLaunchArgument(
        'robot_contract',
        default_value='',
        description='Contract that defines topics, joint names, units and controllers of the simulated arm.',
    ),
    DeclareLaunchArgument(
        'scene',
        default_value='',
        description='Scene file with robot, sensors and cameras, or the name of a shipped one.',
    ),
    DeclareLaunchArgument(
        'disturbances',
        default_value='',
        description='Disturbances: a YAML file or a scenario.',
    ),
    DeclareLaunchArgument('seed', default_value='0', description='Seed of the disturbances.'),
    DeclareLaunchArgument(
        'mode',
        default_value='realtime',
        choices=['lockstep', 'realtime', 'fast'],
        description='realtime: wall clock; lockstep: one policy period per command; fast: unpaced.',
    ),
    DeclareLaunchArgument('speed', default_value='1.0', description='Simulated seconds per second, realtime.'),
    DeclareLaunchArgument('autostart', default_value='true', description='Run episodes automatically.'),
    DeclareLaunchArgument(
        'operating_mode',
        default_value='full',
        choices=['shadow', 'slow', 'full'],
        description='Operating mode of the policy.',
    ),
    DeclareLaunchArgument('output', default_value='', description='Folder for a bag; empty: no recording.'),
    DeclareLaunchArgument(
        'controller',
        default_value='arm_controller',
        description='Position controller with the topic NAME/commands.',
    ),
    DeclareLaunchArgument(
        'dashboard', default_value='false', description='true: serve a web page of the policy on this machine.'
    ),
    DeclareLaunchArgument('dashboard_port', default_value='8600', description='Port of that page.'),
    DeclareLaunchArgument(
        'dashboard_token_file',
        default_value='',
        description='File with the token for buttons, created if absent; empty: the page is read-only.',
    ),
    DeclareLaunchArgument('namespace', default_value='', description='Namespace of nodes and topics.'),
    DeclareLaunchArgument('log_level', default_value='info', description='debug, info, warn, error or fatal.'),
)
NAMES = [argument.name for argument in ARGUMENTS]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and include both launch files; other arguments keep their defaults."""
    validator = Node(
        package='vdd_ros',
        executable='validator',
        name='validator',
        namespace=LaunchConfiguration('namespace'),
        condition=IfCondition(LaunchConfiguration('autostart')),
        parameters=[
            {
                'contract': ParameterValue(LaunchConfiguration('contract_file'), value_type=str),
                'episodes': 0,
            }
        ],
        ros_arguments=['--log-level', LaunchConfiguration('log_level')],
        output='screen',
    )
    return LaunchDescription(
        [
            *ARGUMENTS,
            # A separate scope: arguments passed to the included files cannot be set from outside and are not listed.
            GroupAction(
                forwarding=False,
                launch_configurations={name: LaunchConfiguration(name) for name in NAMES},
                actions=[
                    # Relative names are in the namespace: of two simulated arms, each has its own clock and frames.
                    SetRemap('/clock', 'clock'),
                    SetRemap('/tf', 'tf'),
                    _simulation(),
                    _policy(),
                ],
            ),
            validator,
            *ending_with(validator),
        ]
    )


def _included(name: str, **arguments: Any) -> IncludeLaunchDescription:
    """Include another launch file, with its own parameter file: includes share one scope."""
    file = PathJoinSubstitution([SHARE, 'launch', f'{name}.launch.py'])
    common = ('namespace', 'contract_file', 'controller', 'log_level')
    given = {
        **{each: LaunchConfiguration(each) for each in common},
        'command_interface': 'position',
        'params_file': PathJoinSubstitution([SHARE, 'config', f'{name}.yaml']),
        **arguments,
    }
    return IncludeLaunchDescription(PythonLaunchDescriptionSource(file), launch_arguments=given.items())


def _simulation() -> IncludeLaunchDescription:
    """Include the simulated arm, with a recorder."""
    shared = ('task', 'robot_contract', 'mode', 'speed', 'output', 'scene', 'disturbances', 'seed')
    # As much more time as the policy takes in slow mode: slow_speed of config/policy.yaml.
    time_limit = PythonExpression(["4.0 if '", LaunchConfiguration('operating_mode'), "' == 'slow' else 1.0"])
    return _included('simulation', time_limit=time_limit, **{name: LaunchConfiguration(name) for name in shared})


def _policy() -> IncludeLaunchDescription:
    """Include the policy, which the validator activates. A simulated arm requires no report."""
    shared = {name: LaunchConfiguration(name) for name in ('model_path', 'operating_mode', *DASHBOARD)}
    unused = dict.fromkeys(('report', 'override_name', 'override_reason'), '')
    return _included('policy', autostart='false', use_sim_time='true', **shared, **unused)
