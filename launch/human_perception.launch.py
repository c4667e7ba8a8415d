"""People in front of a camera: perception node, optional source, view and RViz."""

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription()
