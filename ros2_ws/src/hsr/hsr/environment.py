"""What a node process needs around it: the package's files, the transport profile, the allocator's thresholds."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
"""The older and the newer name of the same variable."""
DEFAULT_SEGMENT_BYTES = 512 * 1024
"""Shared-memory segment of Fast DDS without a profile: larger best-effort messages are mostly lost."""

ALLOCATOR = {
    # Each mesh and image is a fresh buffer of megabytes. glibc would map and unmap it, paying a page fault for every
    # 4 KiB; with these it is taken from the heap and kept. 32 MiB is the largest value that glibc accepts.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(128 * 1024 * 1024),
    "MALLOC_TOP_PAD_": str(16 * 1024 * 1024),
    # Each configure works in a new thread, and so would fill another arena: eight a core, which are never given back.
    "MALLOC_ARENA_MAX": "2",
}


_MALLOPT = {"MALLOC_MMAP_THRESHOLD_": -3, "MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_TOP_PAD_": -2, "MALLOC_ARENA_MAX": -8}
"""The same by glibc's mallopt, for a process that runs already."""


def prepare_process() -> None:
    """Give this process what a launcher would have: for nodes that are started by hand. Before ROS is initialised."""
    os.environ.update(transport_environment())
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        for name, option in _MALLOPT.items():
            mallopt(option, int(os.environ[name]))


def give_back_memory() -> None:
    """Return what the allocator keeps of freed memory to the system; for after large things were freed."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def share_dir() -> Path:
    """Return the folder with config/, rviz/ and launch/: in the source tree, or installed."""
    source = Path(__file__).resolve().parent.parent
    if (source / "config").is_dir():
        return source
    from ament_index_python.packages import get_package_share_directory

    return Path(get_package_share_directory("hsr"))


def large_message_profile() -> Path:
    """Return the Fast DDS profile with a shared-memory segment that images and meshes fit into."""
    return share_dir() / "config" / "fastdds_large.xml"


def uses_fastdds(environ: Mapping[str, str] | None = None) -> bool:
    """True when nodes will run on Fast DDS, which is the default middleware."""
    environ = os.environ if environ is None else environ
    return "fastrtps" in (environ.get("RMW_IMPLEMENTATION") or "rmw_fastrtps_cpp")


def transport_environment(dds_profile: str = "auto", environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables to add to the environment of a node process.

    Args:
        dds_profile: `auto`: our profile, unless the user has set one or runs another middleware; `none`: leave the
            transport alone; else the path of a profile.
        environ: The environment that is added to; the current one if None.

    Raises:
        FileNotFoundError: `dds_profile` is a path without a file.
    """
    environ = os.environ if environ is None else environ
    out = {name: value for name, value in ALLOCATOR.items() if name not in environ}
    if dds_profile == "none":
        return out
    if dds_profile == "auto":
        if uses_fastdds(environ) and not any(environ.get(name) for name in PROFILE_VARIABLES):
            out.update(dict.fromkeys(PROFILE_VARIABLES, str(large_message_profile())))
        return out
    path = Path(dds_profile).expanduser().resolve()
    if not path.is_file():
        raise FileNotFoundError(f"dds_profile {dds_profile}: no such file (auto, none, or the path of a profile)")
    out.update(dict.fromkeys(PROFILE_VARIABLES, str(path)))
    return out


@dataclass(frozen=True)
class ProfileStatus:
    """The transport profile of a process.

    Attributes:
        rmw: Middleware.
        path: Profile file; "" = none.
        segment_bytes: Size of the shared-memory segment; 0 = unknown (another middleware).
        active: Large best-effort messages are safe as far as the profile says.
        note: What is wrong and what to do; "" = nothing.
    """

    rmw: str
    path: str
    segment_bytes: int
    active: bool
    note: str


def profile_status(environ: Mapping[str, str] | None = None) -> ProfileStatus:
    """Return what transport profile a process with this environment runs under."""
    environ = os.environ if environ is None else environ
    rmw = environ.get("RMW_IMPLEMENTATION") or "rmw_fastrtps_cpp"
    if not uses_fastdds(environ):
        return ProfileStatus(rmw, "", 0, False, f"{rmw}: no profile of ours; check that images over 512 kB arrive")
    path = next((environ[name] for name in PROFILE_VARIABLES if environ.get(name)), "")
    advice = f"export {PROFILE_VARIABLES[0]}={large_message_profile()}"
    if not path:
        note = f"no transport profile: images over 512 kB are mostly lost; {advice}"
        return ProfileStatus(rmw, "", DEFAULT_SEGMENT_BYTES, False, note)
    try:
        sizes = [int(size) for size in re.findall(r"<segment_size>\s*(\d+)\s*<", Path(path).read_text())]
    except OSError as error:
        note = f"transport profile cannot be read ({error}); {advice}"
        return ProfileStatus(rmw, path, DEFAULT_SEGMENT_BYTES, False, note)
    size = max(sizes, default=DEFAULT_SEGMENT_BYTES)
    enough = size >= 8 * 1024 * 1024
    note = "" if enough else f"{path} sets a segment of {size} bytes: images may not fit; {advice}"
    return ProfileStatus(rmw, path, size, enough, note)
