"""ROS 2 nodes around hsr_core: messages in, core call, messages out."""
