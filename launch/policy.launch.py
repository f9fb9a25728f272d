"""A distilled policy that commands an arm: real under ros2_control, or simulated."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from vdd_ros.nodes.launching import ending_with, existing_file


def generate_launch_description() -> LaunchDescription:
    """Describe the arguments and the node."""
    defaults = PathJoinSubstitution([FindPackageShare('vdd_ros'), 'config', 'policy.yaml'])
    policy_node = LifecycleNode(
        package='vdd_ros',
        executable='policy_node',
        name='policy_node',
        namespace=LaunchConfiguration('namespace'),
        parameters=[
            LaunchConfiguration('params_file'),
            {
                'use_sim_time': ParameterValue(LaunchConfiguration('use_sim_time'), value_type=bool),
                'artifact': ParameterValue(LaunchConfiguration('model_path'), value_type=str),
                'contract': ParameterValue(LaunchConfiguration('contract_file'), value_type=str),
                'controller': ParameterValue(LaunchConfiguration('controller'), value_type=str),
                'interface': ParameterValue(LaunchConfiguration('command_interface'), value_type=str),
                'operating_mode': ParameterValue(LaunchConfiguration('operating_mode'), value_type=str),
                'report': ParameterValue(LaunchConfiguration('report'), value_type=str),
                'override_name': ParameterValue(LaunchConfiguration('override_name'), value_type=str),
                'override_reason': ParameterValue(LaunchConfiguration('override_reason'), value_type=str),
                'autostart': ParameterValue(LaunchConfiguration('autostart'), value_type=bool),
            },
        ],
        ros_arguments=['--log-level', LaunchConfiguration('log_level')],
        output='screen',
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument('model_path', description='Folder of the artifact that the policy is loaded from.'),
            DeclareLaunchArgument(
                'contract_file',
                default_value='',
                description='Contract that the artifact must have been trained under; empty asks for none.',
            ),
            DeclareLaunchArgument(
                'controller', default_value='', description='Its name; empty: the commands topic of the contract.'
            ),
            DeclareLaunchArgument(
                'command_interface',
                default_value='position',
                choices=['position', 'trajectory'],
                description='position: NAME/commands; trajectory: NAME/joint_trajectory.',
            ),
            DeclareLaunchArgument(
                'operating_mode',
                default_value='slow',
                choices=['shadow', 'slow', 'full'],
                description='shadow: infer and compare, never command; slow: a share of the speed; full.',
            ),
            DeclareLaunchArgument(
                'report',
                default_value='',
                description='Report of the validation, asked for before an arm moves; empty: beside the artifact.',
            ),
            DeclareLaunchArgument(
                'override_name', default_value='', description='Who answers for an artifact that does not pass.'
            ),
            DeclareLaunchArgument('override_reason', default_value='', description='Why; both are logged and kept.'),
            DeclareLaunchArgument('use_sim_time', default_value='false', description='true with a simulated arm.'),
            DeclareLaunchArgument(
                'autostart',
                default_value='false',
                description='Configure and activate at once; false leaves it to you.',
            ),
            DeclareLaunchArgument('namespace', default_value='', description='Namespace of the node and its topics.'),
            DeclareLaunchArgument(
                'params_file', default_value=defaults, description='Parameters; or of config/robots.'
            ),
            DeclareLaunchArgument('log_level', default_value='info', description='debug, info, warn, error or fatal.'),
            existing_file('params_file'),
            policy_node,
            *ending_with(policy_node),
        ]
    )
