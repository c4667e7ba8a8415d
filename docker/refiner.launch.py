"""The refiner by itself, configured and activated: for a container beside that of the perception node.

ros2 launch docker/refiner.launch.py image:=/camera/image_raw camera_info:=/camera/camera_info
"""

from hsr.environment import share_dir
from launch.actions import DeclareLaunchArgument, EmitEvent, RegisterEventHandler
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

from launch import LaunchDescription

INPUTS = {"image": "/camera/image_raw", "camera_info": "/camera/camera_info", "depth": "depth", "mask": "mask"}


def generate_launch_description() -> LaunchDescription:
    node = LifecycleNode(
        package="hsr",
        executable="refine_node",
        name="refiner",
        namespace="human",
        parameters=[str(share_dir() / "config" / "refine.yaml")],
        remappings=[(name, LaunchConfiguration(name)) for name in INPUTS],
        output="screen",
        emulate_tty=True,
    )

    def change(transition: int) -> EmitEvent:
        return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition))

    return LaunchDescription(
        [
            *(DeclareLaunchArgument(name, default_value=topic) for name, topic in INPUTS.items()),
            RegisterEventHandler(
                OnProcessStart(target_action=node, on_start=[change(Transition.TRANSITION_CONFIGURE)])
            ),
            RegisterEventHandler(
                OnStateTransition(
                    target_lifecycle_node=node,
                    start_state="configuring",
                    goal_state="inactive",
                    entities=[change(Transition.TRANSITION_ACTIVATE)],
                )
            ),
            node,
        ]
    )
