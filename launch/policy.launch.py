"""A policy that commands an arm: real with ros2_control, or simulated."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from vdd_ros.nodes.launching import ending_with, existing_file

DEFAULTS = PathJoinSubstitution([FindPackageShare('vdd_ros'), 'config', 'policy.yaml'])
ARGUMENTS = (
    DeclareLaunchArgument('model_path', description='Folder of the policy artifact.'),
    DeclareLaunchArgument(
        'contract_file',
        default_value='',
        description='Required contract of the artifact; empty: any.',
    ),
    DeclareLaunchArgument(
        'controller',
        default_value='',
        description='Name of the controller; empty: commands topic of the contract.',
    ),
    DeclareLaunchArgument(
        'command_interface',
        default_value='position',
        choices=['position', 'trajectory', 'follow_joint_trajectory'],
        description='position: NAME/commands; trajectory: NAME/joint_trajectory; follow_joint_trajectory: the action.',
    ),
    DeclareLaunchArgument(
        'operating_mode',
        default_value='slow',
        choices=['shadow', 'slow', 'full'],
        description='shadow: no commands; slow: reduced speed; full.',
    ),
    DeclareLaunchArgument(
        'report',
        default_value='',
        description='Validation report, required before an arm moves; empty: beside the artifact.',
    ),
    DeclareLaunchArgument('override_name', default_value='', description='Operator who overrides the validation gate.'),
    DeclareLaunchArgument('override_reason', default_value='', description='Reason of the override; logged.'),
    DeclareLaunchArgument('use_sim_time', default_value='false', description='true with a simulated arm.'),
    DeclareLaunchArgument(
        'autostart',
        default_value='false',
        description='Configure and activate automatically.',
    ),
    DeclareLaunchArgument('namespace', default_value='', description='Namespace of the node and its topics.'),
    DeclareLaunchArgument(
        'params_file', default_value=DEFAULTS, description='Parameter file, such as one of config/robots.'
    ),
    DeclareLaunchArgument(
        'dashboard', default_value='false', description='true: serve a web page of the node on this machine.'
    ),
    DeclareLaunchArgument('dashboard_port', default_value='8600', description='Port of that page.'),
    DeclareLaunchArgument(
        'dashboard_token_file',
        default_value='',
        description='File with the token for buttons, created if absent; empty: the page is read-only.',
    ),
    DeclareLaunchArgument('log_level', default_value='info', description='debug, info, warn, error or fatal.'),
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and the node."""
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
    dashboard = Node(
        package='vdd_ros',
        executable='dashboard',
        name='dashboard',
        namespace=LaunchConfiguration('namespace'),
        parameters=[
            {
                'port': ParameterValue(LaunchConfiguration('dashboard_port'), value_type=int),
                'token_file': ParameterValue(LaunchConfiguration('dashboard_token_file'), value_type=str),
            }
        ],
        condition=IfCondition(LaunchConfiguration('dashboard')),
        output='screen',
    )
    return LaunchDescription(
        [
            *ARGUMENTS,
            existing_file('params_file'),
            policy_node,
            dashboard,
            *ending_with(policy_node),
        ]
    )
