"""A recorded episode: its commands onto an arm, or its observations to a policy in the shadow."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from vdd_ros.nodes.launching import ending_with, existing_file


def generate_launch_description() -> LaunchDescription:
    """Describe the arguments and the node."""
    defaults = PathJoinSubstitution([FindPackageShare('vdd_ros'), 'config', 'replay.yaml'])
    replay = LifecycleNode(
        package='vdd_ros',
        executable='replay',
        name='replay',
        namespace=LaunchConfiguration('namespace'),
        parameters=[
            LaunchConfiguration('params_file'),
            {
                'use_sim_time': ParameterValue(LaunchConfiguration('use_sim_time'), value_type=bool),
                'bag': ParameterValue(LaunchConfiguration('bag'), value_type=str),
                'contract': ParameterValue(LaunchConfiguration('contract_file'), value_type=str),
                'episode': ParameterValue(LaunchConfiguration('episode'), value_type=int),
                'mode': ParameterValue(LaunchConfiguration('mode'), value_type=str),
                'speed': ParameterValue(LaunchConfiguration('speed'), value_type=float),
                'controller': ParameterValue(LaunchConfiguration('controller'), value_type=str),
                'autostart': ParameterValue(LaunchConfiguration('autostart'), value_type=bool),
            },
        ],
        ros_arguments=['--log-level', LaunchConfiguration('log_level')],
        output='screen',
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument('bag', description='The bag to play from.'),
            DeclareLaunchArgument('contract_file', description='Contract that the bag is read by.'),
            DeclareLaunchArgument('episode', default_value='0', description='Which episode, from 0; -1 is the last.'),
            DeclareLaunchArgument(
                'mode',
                default_value='commands',
                description='commands: onto the arm; shadow: observations to a policy that only says what it would do.',
            ),
            DeclareLaunchArgument('speed', default_value='1.0', description='Times the speed of the recording.'),
            DeclareLaunchArgument(
                'controller',
                default_value='',
                description='Position controller; takes NAME/commands; empty: the commands topic of the contract.',
            ),
            DeclareLaunchArgument('use_sim_time', default_value='false', description='true with a simulated arm.'),
            DeclareLaunchArgument(
                'autostart',
                default_value='false',
                description='Configure and activate at once; false leaves it to you.',
            ),
            DeclareLaunchArgument('namespace', default_value='', description='Namespace of the node and its topics.'),
            DeclareLaunchArgument('params_file', default_value=defaults, description='Parameters of replay.'),
            DeclareLaunchArgument('log_level', default_value='info', description='debug, info, warn, error or fatal.'),
            existing_file('params_file'),
            replay,
            *ending_with(replay),
        ]
    )
