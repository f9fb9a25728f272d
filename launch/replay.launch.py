"""Replay of a recorded episode: commands to an arm, or observations to a policy in shadow mode."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from vdd_ros.nodes.launching import ending_with, existing_file

DEFAULTS = PathJoinSubstitution([FindPackageShare('vdd_ros'), 'config', 'replay.yaml'])
ARGUMENTS = (
    DeclareLaunchArgument('bag', description='The bag.'),
    DeclareLaunchArgument('contract_file', description='Contract of the bag.'),
    DeclareLaunchArgument('episode', default_value='0', description='Number of the episode, from 0; -1 is the last.'),
    DeclareLaunchArgument(
        'mode',
        default_value='commands',
        description='commands: to the arm; shadow: observations to a policy in shadow mode.',
    ),
    DeclareLaunchArgument('speed', default_value='1.0', description='Factor on the recorded speed.'),
    DeclareLaunchArgument(
        'controller',
        default_value='',
        description='Position controller with the topic NAME/commands; empty: commands topic of the contract.',
    ),
    DeclareLaunchArgument('use_sim_time', default_value='false', description='true with a simulated arm.'),
    DeclareLaunchArgument(
        'autostart',
        default_value='false',
        description='Configure and activate automatically.',
    ),
    DeclareLaunchArgument('namespace', default_value='', description='Namespace of the node and its topics.'),
    DeclareLaunchArgument('params_file', default_value=DEFAULTS, description='Parameters of replay.'),
    DeclareLaunchArgument('log_level', default_value='info', description='debug, info, warn, error or fatal.'),
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and the node."""
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
            *ARGUMENTS,
            existing_file('params_file'),
            replay,
            *ending_with(replay),
        ]
    )
