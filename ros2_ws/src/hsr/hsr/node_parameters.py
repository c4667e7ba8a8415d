"""Parameters of the nodes that load no network: read once, at the start.

Name, default, description, and what is allowed: (least, largest), the words to choose from, or None.
"""

SOURCE = (
    ("source", "clip", "Video file, folder of images, webcam:N, synthetic, or clip (the bundled recording)", None),
    ("rate_hz", 0.0, "Images per second; 0 = the source's own rate [Hz]", (0.0, 1000.0)),
    ("loop", True, "Play again from the start; false: stop at the end", None),
    ("back_and_forth", False, "Play every second time backwards: a short clip has no cut", None),
    ("frame_id", "camera_color_optical_frame", "frame_id of the images", None),
    ("hfov_deg", 0.0, "Publish camera info with this field of view; 0 = only a calibrated one [deg]", (0.0, 150.0)),
    ("cache_mb", 1024.0, "A clip that fits into this is kept decoded [MB]", (0.0, 65536.0)),
)

VIEW = (
    ("host", "127.0.0.1", "Address to listen on; 0.0.0.0 shows the camera to the network", None),
    ("port", 8080, "First port to try; 0 = any", (0, 65535)),
    ("max_rate_hz", 15.0, "Most drawings per second", (0.5, 60.0)),
    ("picture", "overlay", "Picture in the camera", ("overlay", "camera", "none")),
    ("perception", "perception", "Name of the node that the sliders set", None),
    ("robot", "", "Robot that follows (name or path of a mapping), shown beside the people; empty: none", None),
    ("robot_mode", "upper_body", "Mode of its mapping", None),
)

RECORDER = (
    ("path", "", "Folder of the bag; must not exist", None),
    ("seconds", 0.0, "Stop after so many seconds; 0 = when told to [s]", (0.0, 1e6)),
    (
        "transport",
        "auto",
        "Images: auto (compressed where the camera sends it, else raw), compressed or raw",
        ("auto", "compressed", "raw"),
    ),
    ("jpeg_quality", 90, "Of JPEGs made of raw images, 1 to 100", (1, 100)),
    ("flush_s", 0.5, "Longest time that a message is only in memory [s]", (0.01, 60.0)),
    ("queue_mb", 64.0, "Messages that wait for a slow disk; more are dropped and counted [MB]", (1.0, 65536.0)),
    ("print_summary", False, "Print a JSON object at the end", None),
)

PLAYER = (
    ("path", "", "Folder of the bag, or its .mcap or .db3 file", None),
    (
        "mode",
        "paced",
        "paced: at recorded intervals; stepped: each image after the answer to the last",
        ("paced", "stepped"),
    ),
    ("rate", 1.0, "Speed of paced playing; 1 = as recorded", (0.01, 100.0)),
    ("answer_timeout_s", 10.0, "stepped: longest wait for an answer [s]", (0.01, 3600.0)),
    ("image_topic", "", "Topic whose messages are answered; empty: the only image topic that is played", None),
    ("wait_for_subscriber_s", 10.0, "Wait so long for somebody who listens to the images [s]", (0.0, 3600.0)),
    ("clock", True, "Publish the recording's time on /clock", None),
)

ROBOT_SIM = (
    ("robot", "", "Robot: a name of `hsr robot list`, or the path of a mapping", None),
    ("robot_mode", "upper_body", "Mode of its mapping", None),
    ("rate_hz", 100.0, "Joint states per second [Hz]", (10.0, 1000.0)),
    ("time_constant_s", 0.05, "Lag of each joint behind its command [s]", (0.005, 1.0)),
    ("play_operator", False, "Play the person at the button, too: select, arm, engage, press", None),
)

MOUNT = (
    ("mount", "0 0 1.4 0 0 0", "Where the camera is in the world: x y z [m] roll pitch yaw [deg]", None),
    ("world_frame", "world", "Name of the world, whose z is up", None),
    ("frame", "camera_color_optical_frame", "Of the camera; optical axes if it ends with optical_frame", None),
)
