"""What a recording has for the nodes: which of its topics are the camera's, and how the nodes ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

FRAMES = ("/tf", "/tf_static")
PEOPLE = "hsr_msgs/msg/HumanArray"


@dataclass(frozen=True)
class BagTopics:
    """What a recording has for the nodes.

    Attributes:
        images: Image topic as it was recorded.
        image: The same without `/compressed`.
        camera_info: Beside it, recorded or not.
        depth, depth_info: The registered depth image without `/compressedDepth`, and its camera info; "" without one.
        transport: raw or compressed, as the images were recorded.
        recorded: All topics with messages.
        camera: Of those the camera's and the frames.
        people: It holds people: this stack ran beside the recorder, and their frames may be on /tf.
        problems: What is wrong with it, as far as that is known before it is read.
    """

    images: str
    image: str
    camera_info: str
    depth: str
    depth_info: str
    transport: str
    recorded: tuple[str, ...]
    camera: tuple[str, ...]
    people: bool
    problems: Mapping[str, Any]

    def inputs(self) -> dict[str, str]:
        """Return the topic of each input of the nodes that the recording has."""
        names = {
            "image": self.image,
            "camera_info": self.camera_info,
            "depth": self.depth,
            "depth_info": self.depth_info,
        }
        return {name: topic for name, topic in names.items() if topic}


@lru_cache(maxsize=4)
def bag_topics(bag: str, image: str = "") -> BagTopics:
    """Return what is in a recording.

    Args:
        image: Topic of its images, with or without /compressed; "" = the only one.

    Raises:
        SourceError: No bag, no usable images in it, or several topics to choose from.
    """
    from hsr_core.sources.bag import BagSource, info_beside  # only when there is a recording to look into
    from hsr_core.sources.bag_reader import BagReader

    with BagReader(bag) as reader:
        recorded = {name: topic.kind for name, topic in reader.topics.items() if topic.count}
    if image and image not in recorded and f"{image}/compressed" in recorded:
        image += "/compressed"
    with BagSource(bag, image_topic=image or None) as source:
        found = source.diagnosis
    base = found.image_topic.removesuffix("/compressed")
    depth_info = info_beside(found.depth_topic) if found.depth_topic else ""
    camera = (found.image_topic, found.camera_info_topic, found.depth_topic, depth_info, *FRAMES)
    return BagTopics(
        images=found.image_topic,
        image=base,
        camera_info=found.camera_info_topic or info_beside(base),
        depth=found.depth_topic.removesuffix("/compressedDepth"),
        depth_info=depth_info,
        transport="raw" if base == found.image_topic else "compressed",
        recorded=tuple(recorded),
        camera=tuple(name for name in dict.fromkeys(camera) if name in recorded),
        people=PEOPLE in recorded.values(),
        problems=found.problems(),
    )
