"""A simulated robot behind the topics of ros2_control; with `output`, also a recorder.

It uses the ROS domain of the terminal, which must be without robots.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, PythonExpression
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from vdd_ros.nodes.launching import ending_with, existing_file

DEFAULTS = PathJoinSubstitution([FindPackageShare('vdd_ros'), 'config', 'simulation.yaml'])
ARGUMENTS = (
    DeclareLaunchArgument('namespace', default_value='', description='Namespace of nodes and topics.'),
    DeclareLaunchArgument('params_file', default_value=DEFAULTS, description='Parameters of mujoco_bridge.'),
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
    DeclareLaunchArgument(
        'time_limit', default_value='1.0', description='Time limit of an episode, times that of the task.'
    ),
    DeclareLaunchArgument('seed', default_value='0', description='Seed of the disturbances.'),
    DeclareLaunchArgument(
        'mode',
        default_value='realtime',
        choices=['lockstep', 'realtime', 'fast'],
        description='realtime: wall clock; lockstep: one policy period per command; fast: unpaced.',
    ),
    DeclareLaunchArgument('speed', default_value='1.0', description='Simulated seconds per second, realtime.'),
    DeclareLaunchArgument(
        'controller', default_value='arm_controller', description='Controller of the task, with topics NAME/...'
    ),
    DeclareLaunchArgument(
        'command_interface',
        default_value='position',
        choices=['position', 'trajectory'],
        description='position: NAME/commands; trajectory: NAME/joint_trajectory.',
    ),
    DeclareLaunchArgument(
        'contract_file',
        default_value='avoiding_cartesian',
        description='Contract whose topics are recorded.',
    ),
    DeclareLaunchArgument('output', default_value='', description='Folder for a bag; empty: no recording.'),
    DeclareLaunchArgument('log_level', default_value='info', description='debug, info, warn, error or fatal.'),
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and the nodes."""
    log_level = ['--log-level', LaunchConfiguration('log_level')]
    mujoco_bridge = Node(
        package='vdd_ros',
        executable='mujoco_bridge',
        name='mujoco_bridge',
        namespace=LaunchConfiguration('namespace'),
        parameters=[
            LaunchConfiguration('params_file'),
            {
                'task': ParameterValue(LaunchConfiguration('task'), value_type=str),
                'mode': ParameterValue(LaunchConfiguration('mode'), value_type=str),
                'speed': ParameterValue(LaunchConfiguration('speed'), value_type=float),
                'controller': ParameterValue(LaunchConfiguration('controller'), value_type=str),
                'scene': ParameterValue(LaunchConfiguration('scene'), value_type=str),
                'contract': ParameterValue(LaunchConfiguration('robot_contract'), value_type=str),
                'disturbances': ParameterValue(LaunchConfiguration('disturbances'), value_type=str),
                'seed': ParameterValue(LaunchConfiguration('seed'), value_type=int),
                'time_limit': ParameterValue(LaunchConfiguration('time_limit'), value_type=float),
                'command_interface': ParameterValue(LaunchConfiguration('command_interface'), value_type=str),
            },
        ],
        ros_arguments=log_level,
        output='screen',
    )
    recorder = Node(
        package='vdd_ros',
        executable='recorder',
        name='recorder',
        namespace=LaunchConfiguration('namespace'),
        condition=IfCondition(PythonExpression(["'", LaunchConfiguration('output'), "' != ''"])),
        parameters=[
            {
                'use_sim_time': True,
                'output': ParameterValue(LaunchConfiguration('output'), value_type=str),
                'contract': ParameterValue(LaunchConfiguration('contract_file'), value_type=str),
            }
        ],
        ros_arguments=log_level,
        output='screen',
    )
    return LaunchDescription(
        [
            *ARGUMENTS,
            existing_file('params_file'),
            mujoco_bridge,
            recorder,
            *ending_with(mujoco_bridge, recorder),
        ]
    )
