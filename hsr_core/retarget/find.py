"""Where robots lie that were installed as Python packages; nothing is downloaded."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from importlib.util import find_spec
from pathlib import Path

from ..errors import BadFile, HsrError, MissingFile, MissingPackage

PACKAGES = {
    "example-robot-data": "share/example-robot-data",
    "jvrc-description": "jvrc_description",
    "dexmate-urdf": "dexmate_urdf",
}
"""Distribution name -> the folder that its paths start at, as its wheel names it."""


def package_folder(name: str) -> Path:
    """Return the folder of an installed robot package; meshes named `package://<folder>/...` lie under its parent.

    Raises:
        MissingPackage: It is not installed; the message has the pip line.
        BadFile: It is installed without that folder.
    """
    if name not in PACKAGES:
        raise MissingFile(f"no robot package {name!r}; there are: {', '.join(PACKAGES)}")
    try:
        entries = files(name) or []
    except PackageNotFoundError as error:
        raise MissingPackage(f"the robot's URDF is in {name}, which is not installed: pip install {name}") from error
    want = PACKAGES[name]
    for entry in entries:
        _, found, _ = f"/{entry.as_posix()}".partition(f"/{want}/")
        if found:
            root = Path(str(entry.locate())).as_posix().partition(f"/{want}/")[0]
            return Path(root) / want
    raise BadFile(f"{name} is installed without {want}: pip install --force-reinstall {name}")


def package_folders() -> list[str]:
    """Return the folders in which `package://` names of the installed robots start."""
    out = []
    for name in PACKAGES:
        try:
            out.append(str(package_folder(name).parent))
        except HsrError:
            continue
    return out


def resolve(path: str, beside: Path) -> Path:
    """Return the file that a mapping names: `package://<package>/...`, an absolute path, or one beside the mapping.

    Raises:
        MissingFile, MissingPackage: Not there.
    """
    if path.startswith("package://"):
        name, _, rest = path.removeprefix("package://").partition("/")
        file = package_folder(name) / rest
    else:
        file = (beside / path).resolve()
    if not file.is_file():
        raise MissingFile(f"no file {file} ({path})")
    return file


def need_libraries() -> None:
    """Raise unless the kinematics and the QP solver are installed.

    Raises:
        MissingPackage: The message has the pip line.
    """
    missing = [name for name in ("pinocchio", "pink", "daqp") if find_spec(name) is None]
    if missing:
        raise MissingPackage(f"retargeting needs {', '.join(missing)}: pip install 'hsr-core[retarget]'")
