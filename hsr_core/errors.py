"""The library's exceptions. Every message says what is wrong and what would have worked."""

from __future__ import annotations


class HsrError(Exception):
    """Root of everything this library raises on purpose."""


class ConfigError(HsrError):
    """A setting is unknown, of the wrong type, or out of range."""


class MissingFile(HsrError):
    """A model, weight, video or calibration file is not where it should be."""


class BadFile(HsrError):
    """A file exists but is truncated, corrupt, or of another format."""


class MissingPackage(HsrError):
    """An optional package is not installed; the message names the command that installs it."""


class ShapeError(HsrError):
    """An array has the wrong shape or dtype; the message gives both shapes."""


class InvalidIntrinsics(HsrError):
    """Camera intrinsics cannot be used; the message gives the values."""


class BadFrame(HsrError):
    """One image cannot be used; the caller counts it and goes on with the next."""


class SourceError(HsrError):
    """A frame source cannot be opened, or ended before its first frame."""


class DeviceError(HsrError):
    """A GPU is missing, ran out of memory or was lost; configuring again may help."""


class ParityError(HsrError):
    """A network's outputs differ from the reference by more than the stated tolerance; the message gives both."""


class TransformError(HsrError):
    """The pose of one frame in another is not known at a time; the message says why."""


class BadTransform(TransformError):
    """A transform cannot be used: no name, a frame that is its own parent, NaN, or no unit quaternion."""


class UnknownFrame(TransformError):
    """Nobody has published this frame; the message lists those that are known."""


class NotConnected(TransformError):
    """Both frames are known but hang on different roots; the message names these."""


class TransformLoop(TransformError):
    """A frame is its own ancestor; the message names the circle."""


class ExtrapolationPast(TransformError):
    """The time lies before the oldest transform that is kept; the message says by how much."""


class ExtrapolationFuture(TransformError):
    """The time lies after the newest transform so far; it may come yet. The message says by how much."""
