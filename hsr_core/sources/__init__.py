"""Frames in: video files, image folders, recordings, webcams, a synthetic figure, all behind `open_source`."""

from __future__ import annotations

from pathlib import Path

from ..errors import SourceError
from .bag_reader import is_bag
from .base import CameraLike, Source

DEFAULT_CLIP = Path(__file__).parent.parent / "data" / "walking.mp4"
"""A real person walking, 3.8 s; licence beside it."""

DEFAULT_CAMERAS = DEFAULT_CLIP.with_suffix(".json")

HELP = (
    "a video file, a folder of images, a rosbag2 (folder, .mcap, .db3; BAG#/image/topic where it has several cameras), "
    "webcam:N, synthetic, or clip (the bundled recording)"
)


def open_source(text: str, *, camera: CameraLike = None) -> Source:
    """Open what `text` names.

    Args:
        text: Video file, folder of images, rosbag2 (folder, .mcap or .db3, with `#/image/topic` behind it where there
            are several), `webcam:0`, `synthetic`, or `clip` for the bundled recording.
        camera: Intrinsics, attached to every frame. The bundled clip brings its own; else None leaves them unknown.

    Raises:
        SourceError: It does not exist, cannot be read, or holds no frame.
        InvalidIntrinsics: The camera is for another picture size.
    """
    kind, _, rest = text.partition(":")
    if text == "synthetic":
        from .synthetic import SyntheticSource

        return SyntheticSource(camera=camera)
    if kind == "webcam":
        if not (rest or "0").isdigit():
            raise SourceError(f"webcam wants the number of the camera, as in webcam:0, not {text!r}")
        from .webcam import WebcamSource

        return WebcamSource(int(rest or 0), camera=camera)
    from .video import VideoSource

    if text == "clip" or (Path(text).exists() and Path(text).resolve() == DEFAULT_CLIP):
        return VideoSource(DEFAULT_CLIP, camera=camera or clip_camera())
    bag, _, topic = text.partition("#")
    if is_bag(bag):
        from .bag import BagSource

        return BagSource(bag, camera=camera, image_topic=topic or None)
    path = Path(text)
    if path.is_dir():
        from .images import ImageFolderSource

        return ImageFolderSource(path, camera=camera)
    if path.is_file():
        return VideoSource(path, camera=camera)
    raise SourceError(f"no source {text!r}; it can be {HELP}")


def source_exists(text: str) -> bool:
    """Return whether `open_source` would find what `text` names; nothing is opened, and a webcam is taken for there."""
    made = text in ("clip", "synthetic") or text.partition(":")[0] == "webcam"
    return made or Path(text).exists() or Path(text.partition("#")[0]).exists()


def clip_camera() -> CameraLike:
    """Return the camera of the bundled clip."""
    from .calibration import load_camera

    return load_camera(DEFAULT_CAMERAS)
