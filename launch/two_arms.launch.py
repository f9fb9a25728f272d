"""Two arms, each with a policy of its own in a namespace of its own: real under ros2_control, or simulated.

Simulated, it takes part in the ROS domain of the terminal, which must not be that of a robot. Each arm then has its
own clock and its own tf, in its namespace.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.conditions import IfCondition, UnlessCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

SIDES = ('left', 'right')
COMMON = ('operating_mode', 'log_level')
REAL = ('command_interface', 'autostart', 'override_name', 'override_reason')
SIMULATED = ('task', 'scene', 'disturbances', 'mode', 'speed')
OF_A_SIDE = ('model_path', 'contract_file', 'params_file', 'report', 'controller', 'seed')
ARGUMENTS = (
    'simulated',
    *(name for side in SIDES for name in (side, *(f'{side}_{each}' for each in OF_A_SIDE))),
    'operating_mode',
    *REAL,
    *SIMULATED,
    'log_level',
)


def generate_launch_description() -> LaunchDescription:
    """Describe the arguments, and include one launch file for each arm."""
    share = FindPackageShare('vdd_ros')
    policy = PathJoinSubstitution([share, 'config', 'policy.yaml'])
    # A scope of their own: what the included files are given here cannot be set from outside, and is not shown.
    scope = {'forwarding': False, 'launch_configurations': {name: LaunchConfiguration(name) for name in ARGUMENTS}}
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'simulated',
                default_value='false',
                description='true: in MuJoCo; false: arms of this ROS domain.',
            ),
            *(
                entry
                for side in SIDES
                for entry in (
                    DeclareLaunchArgument(side, default_value=side, description=f'Namespace of the {side} arm.'),
                    DeclareLaunchArgument(
                        f'{side}_model_path', description=f'Folder of the artifact for the {side} arm.'
                    ),
                    DeclareLaunchArgument(
                        f'{side}_contract_file',
                        default_value='avoiding_cartesian',
                        description='Contract that the artifact must have been trained under.',
                    ),
                    DeclareLaunchArgument(
                        f'{side}_params_file',
                        default_value=policy,
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
                )
            ),
            DeclareLaunchArgument(
                'operating_mode',
                default_value='slow',
                choices=['shadow', 'slow', 'full'],
                description='shadow: infer and compare, never command; slow: a share of the speed; full.',
            ),
            DeclareLaunchArgument(
                'command_interface',
                default_value='position',
                choices=['position', 'trajectory'],
                description='Of real arms. position: NAME/commands; trajectory: NAME/joint_trajectory.',
            ),
            DeclareLaunchArgument(
                'autostart', default_value='false', description='Configure and activate real arms at once.'
            ),
            DeclareLaunchArgument(
                'override_name', default_value='', description='Who answers for artifacts that do not pass.'
            ),
            DeclareLaunchArgument('override_reason', default_value='', description='Why; both are logged and kept.'),
            DeclareLaunchArgument('task', default_value='avoiding', description='Task that is simulated and judged.'),
            DeclareLaunchArgument(
                'scene', default_value='', description='Scene file of simulated arms, or one that ships.'
            ),
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
            DeclareLaunchArgument('log_level', default_value='info', description='debug, info, warn, error or fatal.'),
            *(
                GroupAction(
                    condition=IfCondition(LaunchConfiguration('simulated')),
                    **scope,
                    actions=[
                        IncludeLaunchDescription(
                            PythonLaunchDescriptionSource(
                                PathJoinSubstitution([share, 'launch', 'closed_loop.launch.py'])
                            ),
                            launch_arguments={
                                **{name: LaunchConfiguration(name) for name in (*COMMON, *SIMULATED)},
                                **_of(side, 'model_path', 'contract_file', 'controller', 'seed'),
                                'namespace': LaunchConfiguration(side),
                                'autostart': 'true',
                                'output': '',
                            }.items(),
                        ),
                    ],
                )
                for side in SIDES
            ),
            *(
                GroupAction(
                    condition=UnlessCondition(LaunchConfiguration('simulated')),
                    **scope,
                    actions=[
                        IncludeLaunchDescription(
                            PythonLaunchDescriptionSource(PathJoinSubstitution([share, 'launch', 'policy.launch.py'])),
                            launch_arguments={
                                **{name: LaunchConfiguration(name) for name in (*COMMON, *REAL)},
                                **_of(side, 'model_path', 'contract_file', 'controller', 'params_file', 'report'),
                                'namespace': LaunchConfiguration(side),
                                'use_sim_time': 'false',
                            }.items(),
                        ),
                    ],
                )
                for side in SIDES
            ),
        ]
    )


def _of(side: str, *names: str) -> dict[str, LaunchConfiguration]:
    """Return the arguments of one side, by the names that they have in its own launch file."""
    return {name: LaunchConfiguration(f'{side}_{name}') for name in names}
