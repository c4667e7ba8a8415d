"""What the recording of an engagement says of itself: an MCAP file, one engagement of an operator with a robot.

Its first record is MCAP metadata of the name `hsr-engagement`, text by name; what is no text is JSON.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .errors import MissingPackage

if TYPE_CHECKING:
    from .retarget.robot import Robot
    from .retarget.settings import TeleopSettings

FORMAT = "hsr-engagement/1"
METADATA_NAME = "hsr-engagement"
SUFFIX, PARTIAL_SUFFIX = ".mcap", ".partial.mcap"
"""Of a whole recording, and of one that is being written or was cut off."""
PEOPLE, STATUS, COMMAND, JOINT_STATES = "people", "status", "command", "joint_states"
"""Keys of `topics` in the header."""
_JSON = ("joint_names", "settings", "topics", "begin_ns", "operator")


def engagement_header(robot: Robot, settings: TeleopSettings, topics: Mapping[str, str], **more: Any) -> dict[str, Any]:
    """Return what is the same for every engagement of a session.

    Args:
        robot: That is commanded.
        settings: Of the session.
        topics: Full names by `PEOPLE`, `STATUS`, `COMMAND` and `JOINT_STATES`.
        **more: Whatever else a reader may want, JSON-able.
    """
    from .retarget.mapping import sha256_of

    return {
        "format": FORMAT,
        "code_version": __version__,
        "robot": robot.mapping.name,
        "robot_mode": robot.mapping.mode,
        "urdf": robot.mapping.urdf,
        "urdf_sha256": sha256_of(robot.urdf),
        "joint_names": list(robot.joint_names),
        "settings": asdict(settings),
        "topics": dict(topics),
        **more,
    }


def as_metadata(header: Mapping[str, Any]) -> dict[str, str]:
    """Return a header as MCAP metadata."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in header.items()}


def read_header(path: Path) -> dict[str, Any]:
    """Return the header of an engagement's recording, also of one that was cut off; {} = the file is none.

    Raises:
        MissingPackage: `mcap` is not installed.
    """
    if path.suffix != SUFFIX or not path.is_file():
        return {}
    try:
        from mcap.exceptions import McapError
        from mcap.records import Header, Metadata
        from mcap.stream_reader import StreamReader
    except ImportError as error:
        raise MissingPackage("reading a recording needs mcap: pip install 'hsr-core[bag]'") from error
    with path.open("rb") as file:
        try:
            for record in StreamReader(file).records:
                if isinstance(record, Metadata) and record.name == METADATA_NAME:
                    return _parsed(record.metadata)
                if not isinstance(record, Header):
                    break
        except (McapError, ValueError, struct.error):  # damaged, or no mcap: whoever reads its messages will say so
            pass
    return {}


def _parsed(metadata: Mapping[str, str]) -> dict[str, Any]:
    header: dict[str, Any] = dict(metadata)
    for name in _JSON:
        if name in header:
            header[name] = json.loads(header[name])
    kinds = (("topics", dict), ("joint_names", list))
    whole = header.get("format") == FORMAT and all(isinstance(header.get(name), kind) for name, kind in kinds)
    return header if whole else {}


def engagements_of(folder: Path) -> Iterator[Path]:
    """Yield the recordings of engagements that a folder has, by name, that is by time."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        if read_header(path):
            yield path
