"""`hsr doctor`: what this machine has, what runs on it now, and what to do to get more.

ROS is asked in a process of its own: the library never imports it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .errors import HsrError
from .runtime.trt import installed_version

OK, WARN, MISSING = "ok", "warn", "missing"
SHM = Path("/dev/shm")
SHM_NEEDED_BYTES = 64 * 1024 * 1024
"""Room for two transport segments of 32 MiB."""

NETWORKS = (
    "pose_detection/pose_detection.tflite",
    "pose_landmark/pose_landmark_full.tflite",
    "hand_landmark/hand_landmark_full.tflite",
    "holistic_landmark/hand_recrop.tflite",
    "face_landmark/face_landmark.tflite",
    "iris_landmark/iris_landmark.tflite",
)


@dataclass(frozen=True)
class Finding:
    """The state of one part.

    Attributes:
        name: Of the part.
        status: `ok`, `warn` (works, with a limit) or `missing`.
        summary: What is there.
        advice: What to do to get more; "" = nothing.
        facts: The same as data.
    """

    name: str
    status: str
    summary: str
    advice: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def check_python() -> Finding:
    running = platform.python_version()
    fit = (3, 10) <= sys.version_info < (3, 13)
    advice = "" if fit else "use Python 3.10, 3.11 or 3.12"
    return Finding("python", OK if fit else WARN, f"{running} on {platform.machine()}", advice, {"version": running})


def check_gpu() -> Finding:
    """Ask torch, which is what would use it."""
    if find_spec("torch") is None:
        return Finding("gpu", MISSING, "torch is not installed", "pip install torch")
    import torch

    facts: dict[str, Any] = {"torch": torch.__version__, "cuda": torch.version.cuda}
    if torch.cuda.is_available():
        facts["devices"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Finding("gpu", OK, f"{', '.join(facts['devices'])} (torch {torch.__version__})", "", facts)
    driver = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    if driver and torch.version.cuda is None:
        advice = "this machine has an NVIDIA driver, but torch is a CPU build: install the CUDA build of torch"
    elif driver:
        advice = "torch sees no GPU although there is a driver: check nvidia-smi and the driver's version"
    else:
        advice = "an NVIDIA GPU and its driver run the networks faster; everything here also runs on the CPU"
    return Finding("gpu", WARN, f"none; the CPU is used (torch {torch.__version__})", advice, facts)


def check_engines() -> Finding:
    """What can run a large network, beside torch, and what `engine: auto` would take here."""
    if find_spec("torch") is None:
        return Finding("engines", MISSING, "none without torch", "pip install torch")
    from .runtime.select import choose, this_machine

    machine = this_machine()
    found = {name: version for name, version in machine.packages.items() if version}
    chosen = choose("auto", "auto", "fp16" if machine.gpu else "fp32", machine)
    summary = f"{', '.join(f'{name} {version}' for name, version in found.items()) or 'torch alone'}; {chosen.reason}"
    extra = "rtx" if machine.gpu else "onnx"
    quick = chosen.engine != "torch"
    advice = "" if quick else f'a large network runs faster with: pip install "hsr-core[{extra}]"'
    return Finding("engines", WARN if advice else OK, summary, advice, {**found, "auto": chosen.engine})


def check_body() -> Finding:
    """Licensed files if the variable names them, else the open body and its cache."""
    folder = os.environ.get("HSR_BODY_MODELS", "")
    if folder:
        from .body.licensed import licensed_body_files

        try:
            files = licensed_body_files(folder)
        except HsrError as error:
            return Finding("body", MISSING, f"HSR_BODY_MODELS={folder} cannot be used", str(error))
        return Finding("body", OK, f"licensed files in {folder}", "", {"family": files.family, "id": files.model_id})
    from .body.open_cache import cache_dir

    more = "for SMPL-X shapes set HSR_BODY_MODELS to a folder with the licensed SMPL-X and FLAME files"
    cached = sorted(cache_dir().glob("open_body_*.npz"))
    if cached:
        return Finding("body", OK, f"open body, cached in {cached[-1]}", more, {"family": "OPEN"})
    if installed_version("anny"):
        try:
            cache_dir().mkdir(parents=True, exist_ok=True)
        except OSError as error:
            summary = f"the open body cannot be kept: no folder {cache_dir()} ({error.strerror})"
            return Finding("body", MISSING, summary, "set HSR_CACHE to a folder that can be written")
        return Finding("body", OK, "open body; built on first use (about a minute)", more, {"family": "OPEN"})
    return Finding("body", MISSING, "no licensed files, and anny is not installed", "pip install anny==0.6.0")


def check_refinement() -> Finding:
    """What depth and mask networks of the user's the refinement finds; it needs none of them."""
    from .depth.files import SIZES, onnx_files, package_files
    from .mask.sam2_files import FILES
    from .paths import model_dir

    root = model_dir()
    known = [*(make(size) for make in (package_files, onnx_files) for size in SIZES), *FILES]
    found = [entry.provider for entry in known if entry.find(root)]
    masks = "the landmark network's masks" if find_spec("mediapipe") else "the body's outline"
    summary = f"depth from topics and the given height, {masks}" + (f"; also {', '.join(found)}" if found else "")
    advice = "" if found else f"for UniDepth or SAM 2 put files of your own into {root}: docs/depth_and_masks.md"
    return Finding("refinement", OK, summary, advice, {"networks": found, "folder": str(root)})


def check_networks() -> Finding:
    """The networks of the landmark regressor and what runs them."""
    from .regress.litert import INSTALL, model_path

    try:
        for name in NETWORKS:
            model_path(name)
    except HsrError as error:
        return Finding("networks", MISSING, "landmark networks are missing", str(error))
    if not installed_version("ai-edge-litert"):
        return Finding("networks", MISSING, "the landmark networks are there, LiteRT is not", INSTALL)
    mediapipe, litert = installed_version("mediapipe"), installed_version("ai-edge-litert")
    found = f"body, hand and face landmarks (mediapipe {mediapipe}, LiteRT {litert})"
    return Finding("networks", OK, found, "", {"count": len(NETWORKS)})


def check_regressors() -> Finding:
    from .registry import names

    found = names("regressor")
    usable = [name for name in found if name != "fake"]
    return Finding("regressors", OK if usable else MISSING, ", ".join(found), "", {"names": found})


def check_weights() -> Finding:
    """PEAR's checkpoint; what it holds is for `hsr weights check` to say."""
    from .config import Settings
    from .regress.pear import PUBLISHED, WEIGHTS_VARIABLE, weights_path

    path = weights_path(Settings())
    if not path:
        advice = f"for the regressor pear set {WEIGHTS_VARIABLE} to {PUBLISHED}"
        return Finding("weights", MISSING, "PEAR's are not set; landmarks is used", advice)
    if not Path(path).is_file():
        return Finding("weights", MISSING, f"{WEIGHTS_VARIABLE}={path} does not exist", "set it to pear_model.pt")
    return Finding("weights", OK, f"PEAR's in {path}", f"hsr weights check {path}", {"path": path})


def check_view() -> Finding:
    found = installed_version("viser")
    if found:
        return Finding("view", OK, f"viser {found}", "", {"version": found})
    return Finding("view", MISSING, "viser is not installed", 'pip install "hsr-core[view]"')


ROS_QUESTION = """
import importlib.util as u, json, os
found = {}
for name in ("rclpy", "hsr", "hsr_msgs", "launch_ros", "tf2_msgs", "hri_msgs", "diagnostic_updater", "cv_bridge"):
    spec = u.find_spec(name)
    found[name] = spec is not None and spec.origin is not None
out = {"packages": found, "distro": os.environ.get("ROS_DISTRO", "")}
try:
    import rclpy
    out["rmw"] = rclpy.get_rmw_implementation_identifier()
    import hsr_msgs.msg
    from hsr.environment import profile_status, transport_environment
    from hsr.wire import check_marker_layout
    out["own_shell"] = vars(profile_status())
    out["our_nodes"] = vars(profile_status({**os.environ, **transport_environment()}))
    out["marker_layout"] = check_marker_layout()
except Exception as error:
    out["error"] = f"{type(error).__name__}: {error}"
print(json.dumps(out))
"""


def ask_ros() -> dict[str, Any]:
    """Return what a Python process here finds of ROS; {"error": ...} when it cannot start."""
    try:
        result = subprocess.run([sys.executable, "-c", ROS_QUESTION], capture_output=True, text=True, timeout=60)
        return json.loads(result.stdout.strip().splitlines()[-1])
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
        return {"packages": {}, "error": f"the question to ROS failed: {error}"}


def check_ros(answer: dict[str, Any]) -> Finding:
    packages = answer.get("packages", {})
    if not packages.get("rclpy"):
        advice = "make setup (wheels, x86-64), or source a ROS 2 installation before starting"
        return Finding("ros", MISSING, "rclpy is not found", advice, answer)
    if "error" in answer:
        return Finding("ros", MISSING, f"rclpy is there, the project's packages are not: {answer['error']}",
                       "make setup, or colcon build ros2_ws and source its install/setup.bash", answer)  # fmt: skip
    if answer["marker_layout"]:
        return Finding("ros", WARN, f"mesh markers take the slow way: {answer['marker_layout']}", "", answer)
    optional = [name for name in ("launch_ros", "tf2_msgs", "hri_msgs", "cv_bridge") if not packages.get(name)]
    advice = f"not found, and not needed: {', '.join(optional)}" if optional else ""
    return Finding("ros", OK, f"rclpy, hsr and hsr_msgs on {answer['rmw']}", advice, answer)


def check_transport(answer: dict[str, Any]) -> Finding:
    """The transport profile of our nodes and of other processes of this shell, such as a camera driver."""
    ours, shell = answer.get("our_nodes"), answer.get("own_shell")
    if ours is None:
        return Finding("transport", MISSING, "unknown without ROS", "")
    facts = {"our_nodes": ours, "own_shell": shell}
    if not ours["active"]:
        return Finding("transport", WARN, ours["note"], "", facts)
    segment = f"{ours['segment_bytes'] / 2**20:.0f} MiB shared-memory segment in our nodes"
    if shell["active"]:
        return Finding("transport", OK, f"{segment}, and in this shell", "", facts)
    advice = f"camera drivers need it too: export FASTRTPS_DEFAULT_PROFILES_FILE={ours['path']}"
    return Finding("transport", OK, f"{segment}; none in this shell", advice, facts)


def check_shared_memory(folder: Path = SHM) -> Finding:
    """Room in shared memory, and whether another user's middleware files lie there."""
    if not folder.is_dir():
        return Finding("shared memory", MISSING, f"no {folder}: messages go through the network stack", "mount it")
    total, _, free = shutil.disk_usage(folder)
    foreign = sorted({path.stat().st_uid for path in _middleware_files(folder)} - {os.getuid()})
    facts = {"total_bytes": total, "free_bytes": free, "other_users": foreign}
    if foreign:
        return Finding("shared memory", WARN, f"{folder} holds DDS segments of other users ({foreign})",
                       "processes of different users see each other's topics but receive nothing: run all as one user",
                       facts)  # fmt: skip
    if total < SHM_NEEDED_BYTES:
        return Finding("shared memory", WARN, f"{folder} has only {total / 2**20:.0f} MiB",
                       "in a container: --ipc=host, or --shm-size=512m", facts)  # fmt: skip
    if free < SHM_NEEDED_BYTES:
        return Finding("shared memory", WARN, f"{folder} has only {free / 2**20:.0f} of {total / 2**20:.0f} MiB free",
                       "fastdds shm clean removes what killed processes have left", facts)  # fmt: skip
    return Finding("shared memory", OK, f"{total / 2**20:.0f} MiB in {folder}, one user", "", facts)


def _middleware_files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*") if path.name.startswith(("fastrtps_", "fastdds_", "sem.fastrtps_"))]


def try_transport() -> Finding:
    """Send 1 MB best-effort images between two processes, with and without the profile."""
    command = [sys.executable, "-m", "hsr.check_transport", "--json"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=120)
        facts = json.loads(result.stdout.strip().splitlines()[-1])
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
        return Finding("transport test", MISSING, f"did not run: {error}", "make setup")
    ours, plain, sent = facts["delivered_with_profile"], facts["delivered_as_is"], facts["sent"]
    text = f"{ours} of {sent} images of 1 MB arrived with the profile, {plain} as this shell is"
    return Finding("transport test", OK if ours == sent else WARN, text, "", facts)


def runs_now(findings: dict[str, Finding]) -> list[str]:
    """Return what works with what was found."""
    has: Callable[[str], bool] = lambda name: findings[name].status != MISSING  # noqa: E731
    out = []
    core = has("body") and has("networks") and has("gpu")
    if core:
        out.append("hsr run SOURCE: body, hands and face without ROS")
    if core and has("ros"):
        out.append("make run: the ROS 2 system with the landmark regressor")
    if has("ros"):
        out.append("the ROS 2 nodes with the fake regressor")
    if has("view"):
        out.append("the web view")
    return out


def examine(*, transport: bool = False) -> dict[str, Finding]:
    """Run every check, by name, in the order to be shown."""
    answer = ask_ros()
    findings = [
        check_python(), check_gpu(), check_engines(), check_body(), check_networks(), check_regressors(),
        check_weights(), check_refinement(), check_view(),
        check_ros(answer), check_transport(answer), check_shared_memory(),
    ]  # fmt: skip
    if transport:
        findings.append(try_transport())
    return {finding.name: finding for finding in findings}


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser = subparsers.add_parser("doctor", help="what this machine has, what runs, and what to do to get more")
    parser.add_argument("--transport", action="store_true", help="send images between two ROS processes (10 s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    return parser


def run(args: argparse.Namespace) -> int:
    """Print the findings; the exit status is 0 when people can be perceived here, else 1."""
    findings = examine(transport=args.transport)
    runs = runs_now(findings)
    for finding in findings.values():
        print(f"{finding.status:>8}  {finding.name + ':':<15} {finding.summary}")
        for line in finding.advice.splitlines():
            print(f"{'':>26} {line}")
    print("\nruns now:", *(f"\n  {line}" for line in runs or ["nothing yet"]), sep="")
    if args.json:
        print(json.dumps({"runs": runs, "checks": {name: asdict(finding) for name, finding in findings.items()}}))
    return 0 if any(line.startswith("hsr run") for line in runs) else 1
