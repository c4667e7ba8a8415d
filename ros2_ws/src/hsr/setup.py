"""Build file of the ROS package `hsr`; the folder `launch` is the project's own, by a link."""

from glob import glob

from setuptools import find_packages, setup

LAUNCH_FILES = glob("launch/*.launch.py")
if not LAUNCH_FILES:
    raise SystemExit("ros2_ws/src/hsr/launch points at the project's launch folder: build from a whole clone")

setup(
    name="hsr",
    version="0.1.0",
    packages=find_packages(include=["hsr", "hsr.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/hsr"]),
        ("share/hsr", ["package.xml"]),
        ("share/hsr/launch", LAUNCH_FILES),
        ("share/hsr/config", glob("config/*")),
        ("share/hsr/rviz", glob("rviz/*.rviz")),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="HSR maintainers",
    maintainer_email="maintainers@hsr-perception.org",
    description="Nodes of the expressive human perception stack",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "camera_nodes = hsr.camera_nodes:main",
            "mount_node = hsr.mount_node:main",
            "perception_node = hsr.perception_node:main",
            "play_node = hsr.play_node:main",
            "record_node = hsr.record_node:main",
            "refine_node = hsr.refine_node:main",
            "replay_meter = hsr.replay_meter:main",
            "retarget_node = hsr.retarget_node:main",
            "robot_sim_node = hsr.robot_sim_node:main",
            "soak = hsr.soak:main",
            "source_node = hsr.source_node:main",
            "view_node = hsr.view_node:main",
        ],
    },
)
