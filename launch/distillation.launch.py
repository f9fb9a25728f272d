"""Training from recorded bags to an artifact, with progress on /diagnostics."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from vdd_ros.nodes.launching import ending_with


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and the node."""
    distillation_node = Node(
        package='vdd_ros',
        executable='distillation_node',
        name='distillation_node',
        namespace=LaunchConfiguration('namespace'),
        parameters=[
            {
                'bags': ParameterValue(LaunchConfiguration('bags'), value_type=list[str]),
                'output': ParameterValue(LaunchConfiguration('output'), value_type=str),
                'contract': ParameterValue(LaunchConfiguration('contract_file'), value_type=str),
                'config': ParameterValue(LaunchConfiguration('config'), value_type=str),
            },
        ],
        ros_arguments=['--log-level', LaunchConfiguration('log_level')],
        output='screen',
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument('bags', description='Training bags: a YAML list of folders, [bag1, bag2].'),
            DeclareLaunchArgument(
                'output', description='Folder for the run; must not exist, or contain a run to resume.'
            ),
            DeclareLaunchArgument(
                'contract_file',
                default_value='avoiding_cartesian',
                description='Contract: a file, or the name of a shipped one.',
            ),
            DeclareLaunchArgument('config', default_value='', description='Training settings; empty: defaults.'),
            DeclareLaunchArgument('namespace', default_value='', description='Namespace of the node.'),
            DeclareLaunchArgument('log_level', default_value='info', description='debug, info, warn, error or fatal.'),
            distillation_node,
            *ending_with(distillation_node),
        ]
    )
