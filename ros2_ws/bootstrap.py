"""Make .venv with the library, ROS 2 as wheels and the message package, on a machine that has none of them.

`make setup` runs this file with any Python 3; only the standard library is used. Each step has a fingerprint of
what it depends on: an unchanged step is skipped, an interrupted one starts again.

    1. a Python 3.10 to 3.12 is found and .venv is made from it
    2. the library and the ROS wheels are installed at the versions of requirements/constraints.txt
    3. the wheels' exported CMake targets, which name their build machine's folders, are pointed at .venv
    4. colcon builds hsr_msgs and hsr into ros2_ws/install, and interfaces that the wheels lack (ros2_ws/stand_ins)
    5. a .pth file in .venv lets each of its processes find that overlay without sourcing anything
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WS = ROOT / "ros2_ws"
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMPS = VENV / "hsr_setup.json"
LOG = WS / "log" / "setup.log"
SUPPORTED = ((3, 11), (3, 12), (3, 10))
"""Pythons that the wheels exist for, best first (3.11 has had the most testing)."""

# Set by a sourced ROS installation; they would mix its files with the venv's.
FOREIGN_VARIABLES = (
    "AMENT_PREFIX_PATH",
    "CMAKE_PREFIX_PATH",
    "COLCON_PREFIX_PATH",
    "LD_LIBRARY_PATH",
    "PYTHONHOME",
    "PYTHONPATH",
    "_ROS_WHEELS_BOOTSTRAP_COMPLETE",
)


class SetupError(Exception):
    """Something the user has to change; the message says what."""


# --- 1. Python ------------------------------------------------------------------------------------------------

PROBE = """
import json, os, sys, sysconfig
try:
    import ensurepip, venv
    has_venv = True
except ImportError:
    has_venv = False
header = os.path.join(sysconfig.get_paths()["include"], "Python.h")
print(json.dumps({"version": sys.version_info[:2], "executable": sys.executable, "venv": has_venv,
                  "headers": os.path.exists(header)}))
"""


def probe(command: str) -> dict | None:
    """Return what a Python can do, or None when `command` is not a Python that starts."""
    try:
        result = subprocess.run([command, "-c", PROBE], capture_output=True, text=True, timeout=60, env=clean_environ())
        return json.loads(result.stdout) if result.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def find_python(wanted: str = "") -> dict:
    """Return the probe of the Python to use: `wanted` if given, else the best that is installed.

    Raises:
        SetupError: None is fit; the message names what each lacks and the packages to install.
    """
    names = [wanted] if wanted else [*(f"python{major}.{minor}" for major, minor in SUPPORTED), "python3"]
    found = [info for info in map(probe, names) if info]
    fit = [info for info in found if tuple(info["version"]) in SUPPORTED and info["venv"] and info["headers"]]
    if fit:
        return fit[0]
    raise SetupError(explain_missing_python(wanted, found))


def explain_missing_python(wanted: str, found: list[dict]) -> str:
    """Say why none of the Pythons can be used, and what to install."""
    lines = []
    for info in found:
        version = ".".join(map(str, info["version"]))
        if tuple(info["version"]) not in SUPPORTED:
            lines.append(f"{info['executable']} is {version}: 3.10, 3.11 or 3.12 is needed")
            continue
        packages = [f"python{version}-venv"] * (not info["venv"]) + [f"python{version}-dev"] * (not info["headers"])
        lines.append(f"{info['executable']} is incomplete: sudo apt install {' '.join(packages)}")
    if not lines:
        lines.append(f"{wanted} does not start" if wanted else "no Python 3.10, 3.11 or 3.12 found")
        lines.append("install one (sudo apt install python3 python3-venv python3-dev)")
    return "\n".join([*lines, "or name another: make setup PYTHON=/path/to/python3.11"])


def make_venv(wanted: str) -> None:
    """Create .venv, or keep it when its Python starts, has pip, and is the wanted one."""
    info = probe(str(PYTHON)) if PYTHON.exists() else None
    base = find_python(wanted) if wanted or info is None else None
    keep = (
        info is not None and tuple(info["version"]) in SUPPORTED and read_stamps().get("root", str(ROOT)) == str(ROOT)
    )
    if keep and base is not None:
        keep = base["version"] == info["version"]
    if keep and subprocess.run([str(PYTHON), "-c", "import pip"], capture_output=True).returncode == 0:
        return
    base = base or find_python(wanted)
    run([base["executable"], "-m", "venv", "--clear", str(VENV)], f"creating .venv from {base['executable']}")


# --- 2. packages ----------------------------------------------------------------------------------------------


def install_packages() -> None:
    """Install the library with its extras and the ROS wheels, all pinned."""
    pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off", "--no-input"]
    pins = ["--constraint", str(ROOT / "requirements" / "constraints.txt")]
    extra = os.environ.get("PIP_ARGS", "").split()
    run([*pip, *pins, *extra, "setuptools", "wheel"], "installing the build tools")
    # The build tools above are pinned too, so no second copy is fetched for an isolated build.
    library = f"{ROOT}[view,test,onnx,rtx,bag,agora,ray,retarget,robots]"
    everything = ["--requirement", str(ROOT / "requirements" / "ros.txt"), "--editable", library]
    run([*pip, *pins, *extra, "--no-build-isolation", *everything], "installing the library and the ROS wheels")


# --- 3. CMake targets -----------------------------------------------------------------------------------------

BUILD_MACHINE = re.compile(r"/opt/python/[^;\"<>\s]*")


def replacement(path: str, python_include: str, numpy_include: str) -> str:
    """Return the venv's own folder for one of the build machine's.

    Raises:
        SetupError: A folder that this function does not know (another version of the wheels).
    """
    if re.fullmatch(r"/opt/python/cp\d+-cp\d+/include/python3\.\d+", path):
        return python_include
    if re.fullmatch(r"/opt/python/cp\d+-cp\d+/lib/python3\.\d+/site-packages/numpy/_?core/include", path):
        return numpy_include
    raise SetupError(
        f"the ROS wheels name a folder of their build machine that is not known here: {path}\n"
        "install the versions of requirements/constraints.txt, or teach ros2_ws/bootstrap.py this path"
    )


def patch_cmake_targets(share: Path, python_include: str, numpy_include: str) -> int:
    """Rewrite the build machine's include folders in the exported targets under `share`; return the files changed.

    Running it again changes nothing.
    """
    changed = 0
    for file in sorted(share.rglob("*.cmake")):
        text = file.read_text(encoding="utf-8", errors="surrogateescape")
        new = BUILD_MACHINE.sub(lambda match: replacement(match.group(), python_include, numpy_include), text)
        if new != text:
            file.write_text(new, encoding="utf-8", errors="surrogateescape")
            changed += 1
    return changed


def patch_venv() -> None:
    code = "import json, numpy, sysconfig; print(json.dumps([sysconfig.get_paths()['include'], numpy.get_include()]))"
    result = subprocess.run([str(PYTHON), "-c", code], capture_output=True, text=True, env=clean_environ())
    if result.returncode:
        raise SetupError(f"numpy in .venv does not import:\n{result.stderr}")
    patch_cmake_targets(VENV / "share", *json.loads(result.stdout))


# --- 4. overlay -----------------------------------------------------------------------------------------------


def build_package(name: str, *options: str, base: str = "src") -> None:
    """Build one package under ros2_ws/`base` into ros2_ws/install, unless the options name another folder."""
    environ = clean_environ()
    environ["PATH"] = f"{VENV / 'bin'}{os.pathsep}{environ.get('PATH', '')}"
    environ["AMENT_PREFIX_PATH"] = environ["CMAKE_PREFIX_PATH"] = str(VENV)
    environ["CMAKE_BUILD_PARALLEL_LEVEL"] = str(os.cpu_count() or 1)
    command = [str(PYTHON), "-m", "colcon", "--log-base", "log", "build", "--base-paths", base, "--merge-install"]
    command += ["--packages-select", name, "--event-handlers", "console_direct+", *options]
    command += ["--cmake-args", "-DBUILD_TESTING=OFF", f"-DPython3_EXECUTABLE={PYTHON}"]
    cache = WS / "build" / name / "CMakeCache.txt"
    if cache.exists():  # it may name another Python, or a half-finished configuration
        shutil.rmtree(cache.parent)
    run(command, f"building {name}", cwd=WS, env=environ)


def check_overlay() -> None:
    """Prove that a plain process of the venv finds the messages and their type support."""
    code = (
        "import hsr, hsr_msgs.msg; from rclpy.serialization import serialize_message as s, deserialize_message as d;"
        "m = hsr_msgs.msg.HumanArray(); assert d(s(m), type(m)) == m"
    )
    run([str(PYTHON), "-c", code], "checking the messages", cwd=ROOT)


# --- 4. stand-ins --------------------------------------------------------------------------------------------

STAND_IN_PREFIX = Path("install") / "stand_ins"
"""Under ros2_ws. A prefix of its own, last on every search path: a real package always comes first."""

STAND_IN_CMAKE = """cmake_minimum_required(VERSION 3.16)
project({name})
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
{find}
rosidl_generate_interfaces(${{PROJECT_NAME}} {files} DEPENDENCIES {needs})
ament_export_dependencies(rosidl_default_runtime)
ament_package()
"""
STAND_IN_MANIFEST = """<package format="3">
  <name>{name}</name>
  <version>0.0.0</version>
  <description>Interfaces of {name} for an environment that lacks the package.</description>
  <maintainer email="maintainers@hsr-perception.org">HSR maintainers</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <buildtool_depend>rosidl_default_generators</buildtool_depend>
  {depends}
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
"""


def stand_ins() -> list[str]:
    """Return the packages whose interfaces lie in ros2_ws/stand_ins."""
    return sorted(folder.name for folder in (WS / "stand_ins").glob("*/") if folder.is_dir())


def is_installed(name: str) -> bool:
    """Whether .venv has the real package."""
    sites = (VENV / "lib").glob("python3.*/site-packages")
    return any(path.exists() for path in (VENV / "share" / name, *(site / name for site in sites)))


def write_stand_in(name: str) -> Path:
    """Make a ROS package of the interfaces of a stand-in; return its folder."""
    package = WS / "build" / "stand_ins" / name
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(WS / "stand_ins" / name, package)
    files = sorted(file for kind in ("msg", "srv") for file in package.glob(f"{kind}/*.{kind}"))
    fields = "\n".join(file.read_text() for file in files)
    needs = sorted(set(re.findall(r"^(\w+)/\w+", fields, re.MULTILINE)) - {name})
    (package / "CMakeLists.txt").write_text(
        STAND_IN_CMAKE.format(
            name=name,
            find="\n".join(f"find_package({need} REQUIRED)" for need in needs),
            files=" ".join(f'"{file.relative_to(package)}"' for file in files),
            needs=" ".join(needs),
        )
    )
    depends = "\n  ".join(f"<depend>{need}</depend>" for need in needs)
    (package / "package.xml").write_text(STAND_IN_MANIFEST.format(name=name, depends=depends))
    return package


def build_stand_ins() -> None:
    """Build the stand-ins of packages that are not installed; none is left of those that are."""
    shutil.rmtree(WS / STAND_IN_PREFIX, ignore_errors=True)
    for name in stand_ins():
        if is_installed(name):
            print(f"-- {name} is installed: no stand-in")
            continue
        package = write_stand_in(name)
        build_package(name, "--install-base", str(STAND_IN_PREFIX), base=str(package))
        code = f"import {name}.msg as m; all_ = [v() for v in vars(m).values() if isinstance(v, type)]; assert all_"
        run([str(PYTHON), "-c", code], f"checking {name}", cwd=ROOT)


# --- 5. finding the overlay -----------------------------------------------------------------------------------

# The live source, the build's metadata (the node scripts look up their entry points), the messages. The file sorts
# before ros_wheels_bootstrapper.pth, which restarts the interpreter once with LD_LIBRARY_PATH set.
PTH = """{ws}/src/hsr
{ws}/build/hsr
{overlay}
{stand_ins}
import hsr_overlay
"""
OVERLAY_MODULE = '''"""Written by ros2_ws/bootstrap.py: every process of this venv finds the ROS packages in ros2_ws."""

import os

PREFIXES = {prefixes!r}
STAND_INS = {stand_ins!r}
GUARD = "_ROS_WHEELS_BOOTSTRAP_COMPLETE"


def add(variable, first, last):
    """Put `first` in front of a path variable and `last` at its end; return False when they were there."""
    old = [part for part in os.environ.get(variable, "").split(os.pathsep) if part]
    new = [part for part in first if part not in old] + old + [last] * (last not in old)
    os.environ[variable] = os.pathsep.join(new)
    return new != old


add("AMENT_PREFIX_PATH", PREFIXES, STAND_INS)
if add("LD_LIBRARY_PATH", [prefix + "/lib" for prefix in PREFIXES], STAND_INS + "/lib"):
    # The loader reads this at start only: have the ROS wheels' own bootstrap restart the interpreter, also when
    # this process was started by another environment that has such a bootstrap.
    os.environ.pop(GUARD, None)
'''


def write_pth() -> None:
    """Put the overlay and the live source of `hsr` on the venv's path."""
    site = next((VENV / "lib").glob("python3.*/site-packages"))
    overlay, stand_ins = (
        prefix / "lib" / site.parent.name / "site-packages" for prefix in (WS / "install", WS / STAND_IN_PREFIX)
    )
    prefixes = [str(WS / "install"), str(VENV)]
    module = OVERLAY_MODULE.format(prefixes=prefixes, stand_ins=str(WS / STAND_IN_PREFIX))
    (site / "hsr_overlay.py").write_text(module)
    (site / "hsr_overlay.pth").write_text(PTH.format(ws=WS, overlay=overlay, stand_ins=stand_ins))


# --- running steps --------------------------------------------------------------------------------------------


def clean_environ() -> dict[str, str]:
    """Return this process's environment without what a sourced ROS installation put there."""
    return {name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES}


def run(command: list[str], title: str, cwd: Path = ROOT, env: dict[str, str] | None = None) -> None:
    """Run a command with its output in the log and a short progress line here.

    Raises:
        SetupError: It failed; the message holds the end of its output.
    """
    LOG.parent.mkdir(parents=True, exist_ok=True)
    print(f"-- {title}", flush=True)
    tail: deque[str] = deque(maxlen=40)
    with open(LOG, "a") as log, heartbeat(tail):
        log.write(f"\n## {title}\n{' '.join(command)}\n")
        log.flush()
        process = subprocess.Popen(
            command, cwd=cwd, env=env or clean_environ(), stdin=subprocess.DEVNULL, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, close_fds=False,
        )  # fmt: skip
        try:
            for line in process.stdout or ():
                log.write(line)
                log.flush()
                if line.strip() and not line.startswith("WARNING"):
                    tail.append(line.rstrip())
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.wait() != 0:
        raise SetupError("\n".join([*tail, f"{title}: failed (exit {process.returncode}); whole log: {LOG}"]))


@contextmanager
def heartbeat(tail: deque[str]) -> Iterator[None]:
    """Print the time and the last line every ten seconds until the step ends."""
    done = threading.Event()

    def beat() -> None:
        start = time.monotonic()
        while not done.wait(10.0):
            print(f"   {time.monotonic() - start:3.0f} s  {tail[-1].strip()[:90] if tail else ''}", flush=True)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def fingerprint(*parts: str | Path) -> str:
    """Return a hash of strings, files and whole folders."""
    digest = hashlib.sha256()
    for part in parts:
        for file in files_of(part) if isinstance(part, Path) else ():
            digest.update(f"{file.relative_to(ROOT)}\0".encode())
            digest.update(file.read_bytes())
        if isinstance(part, str):
            digest.update(f"{part}\0".encode())
    return digest.hexdigest()


def files_of(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    else:
        yield from sorted(file for file in path.rglob("*") if file.is_file() and file.suffix != ".pyc")


def read_stamps() -> dict[str, str]:
    try:
        return json.loads(STAMPS.read_text())
    except (OSError, ValueError):
        return {}


def step(name: str, print_of: str, actions: Iterable[Callable[[], None]]) -> bool:
    """Run the actions unless they ran to their end with the same fingerprint; return True when they ran."""
    stamps = read_stamps()
    if stamps.get(name) == print_of:
        return False
    stamps.pop(name, None)
    STAMPS.write_text(json.dumps(stamps))
    for action in actions:
        action()
    stamps.update({name: print_of, "root": str(ROOT)})
    STAMPS.write_text(json.dumps(stamps))
    return True


def project_requirements() -> str:
    """Return the part of pyproject.toml that decides what is installed."""
    text = (ROOT / "pyproject.toml").read_text()
    return text.partition("[tool.ruff]")[0]


def setup(wanted: str) -> None:
    """Bring .venv and ros2_ws/install up to date."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise SetupError(
            f"the ROS wheels exist for x86-64 Linux only, this is {platform.system()} {platform.machine()}: install "
            "ROS 2 Jazzy by apt or a container and build ros2_ws with colcon (CONTRIBUTING.md)"
        )
    if shutil.which("g++") is None and shutil.which("c++") is None:
        raise SetupError("no C++ compiler for the message package: sudo apt install g++")
    if wanted or not PYTHON.exists() or read_stamps().get("root") != str(ROOT):
        make_venv(wanted)
    version = (VENV / "pyvenv.cfg").read_text()
    toolchain = fingerprint(version, str(ROOT), ROOT / "requirements")
    installed = fingerprint(toolchain, project_requirements())
    step("install", installed, [install_packages, patch_venv])
    src = WS / "src"
    messages = fingerprint(toolchain, PTH, OVERLAY_MODULE, src / "hsr_msgs")
    step("hsr_msgs", messages, [write_pth, lambda: build_package("hsr_msgs"), check_overlay])
    real = " ".join(filter(is_installed, stand_ins()))
    step(
        "stand_ins", fingerprint(messages, STAND_IN_CMAKE, STAND_IN_MANIFEST, WS / "stand_ins", real), [build_stand_ins]
    )
    hsr = src / "hsr"
    parts = [hsr / name for name in ("package.xml", "setup.py", "setup.cfg", "config", "rviz")]
    # Links, not copies: an edited file of the package needs no new build.
    step("hsr", fingerprint(messages, *parts, ROOT / "launch"), [lambda: build_package("hsr", "--symlink-install")])


def main() -> int:
    with open(__file__) as lock:
        # Two runs at once would install over each other. What a killed run has started keeps the lock until it ends.
        os.set_inheritable(lock.fileno(), True)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("-- waiting for another make setup", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            setup(os.environ.get("PYTHON", ""))
        except SetupError as error:
            print(f"\nmake setup: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nmake setup: interrupted; run it again to go on", file=sys.stderr)
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
