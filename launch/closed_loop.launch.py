"""A distilled policy and the simulated arm that it commands, in the ROS domain of the terminal: not that of a robot."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, PythonExpression
from launch_ros.actions import Node, SetRemap
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from vdd_ros.nodes.launching import ending_with

ARGUMENTS = (
    'model_path',
    'contract_file',
    'task',
    'scene',
    'disturbances',
    'seed',
    'mode',
    'speed',
    'autostart',
    'operating_mode',
    'output',
    'controller',
    'namespace',
    'log_level',
)


def generate_launch_description() -> LaunchDescription:
    """Describe the arguments and include both sides; what is not named here keeps the default of its own file."""
    share = FindPackageShare('vdd_ros')
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
    common = {name: LaunchConfiguration(name) for name in ('namespace', 'contract_file', 'controller', 'log_level')}
    return LaunchDescription(
        [
            DeclareLaunchArgument('model_path', description='Folder of the artifact that the policy is loaded from.'),
            DeclareLaunchArgument(
                'contract_file',
                default_value='avoiding_cartesian',
                description='Contract that the artifact must have been trained under, and whose topics are recorded.',
            ),
            DeclareLaunchArgument('task', default_value='avoiding', description='Task that is simulated and judged.'),
            DeclareLaunchArgument(
                'scene', default_value='', description='Scene file: any robot, sensors, cameras; or one that ships.'
            ),
            DeclareLaunchArgument(
                'disturbances',
                default_value='',
                description='Noise, latency, loss, other worlds: a YAML file or a scenario.',
            ),
            DeclareLaunchArgument('seed', default_value='0', description='Seed of the disturbances.'),
            DeclareLaunchArgument(
                'mode',
                default_value='realtime',
                choices=['lockstep', 'realtime', 'fast'],
                description='realtime: by the wall clock; lockstep: one policy period per command; fast: unpaced.',
            ),
            DeclareLaunchArgument('speed', default_value='1.0', description='Simulated seconds per second, realtime.'),
            DeclareLaunchArgument('autostart', default_value='true', description='Run episode after episode.'),
            DeclareLaunchArgument(
                'operating_mode',
                default_value='full',
                choices=['shadow', 'slow', 'full'],
                description='Stage of the policy.',
            ),
            DeclareLaunchArgument('output', default_value='', description='Folder for a bag; empty records nothing.'),
            DeclareLaunchArgument(
                'controller', default_value='arm_controller', description='Position controller; takes NAME/commands.'
            ),
            DeclareLaunchArgument('namespace', default_value='', description='Namespace of nodes and topics.'),
            DeclareLaunchArgument('log_level', default_value='info', description='debug, info, warn, error or fatal.'),
            # A scope of its own: what the included files are given here cannot be set from outside, and is not shown.
            GroupAction(
                forwarding=False,
                launch_configurations={name: LaunchConfiguration(name) for name in ARGUMENTS},
                actions=[
                    # Relative names are in the namespace: of two simulated arms, each has its own clock and frames.
                    SetRemap('/clock', 'clock'),
                    SetRemap('/tf', 'tf'),
                    IncludeLaunchDescription(
                        PythonLaunchDescriptionSource(PathJoinSubstitution([share, 'launch', 'simulation.launch.py'])),
                        launch_arguments={
                            **common,
                            'task': LaunchConfiguration('task'),
                            'mode': LaunchConfiguration('mode'),
                            'speed': LaunchConfiguration('speed'),
                            'output': LaunchConfiguration('output'),
                            'scene': LaunchConfiguration('scene'),
                            'disturbances': LaunchConfiguration('disturbances'),
                            'seed': LaunchConfiguration('seed'),
                            # As much more time as the policy takes in slow mode: slow_speed of config/policy.yaml.
                            'time_limit': PythonExpression(
                                ["4.0 if '", LaunchConfiguration('operating_mode'), "' == 'slow' else 1.0"]
                            ),
                            'command_interface': 'position',
                            # Includes share one scope: each side is told its own file, or it would see the other's.
                            'params_file': PathJoinSubstitution([share, 'config', 'simulation.yaml']),
                        }.items(),
                    ),
                    IncludeLaunchDescription(
                        PythonLaunchDescriptionSource(PathJoinSubstitution([share, 'launch', 'policy.launch.py'])),
                        launch_arguments={
                            **common,
                            'model_path': LaunchConfiguration('model_path'),
                            'autostart': 'false',  # the validator activates it
                            'use_sim_time': 'true',
                            'command_interface': 'position',
                            'operating_mode': LaunchConfiguration('operating_mode'),
                            # A simulated arm asks for no report.
                            **dict.fromkeys(('report', 'override_name', 'override_reason'), ''),
                            'params_file': PathJoinSubstitution([share, 'config', 'policy.yaml']),
                        }.items(),
                    ),
                ],
            ),
            validator,
            *ending_with(validator),
        ]
    )
