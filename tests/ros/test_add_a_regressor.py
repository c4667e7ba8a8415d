"""The package of docs/add_a_regressor.md, as it stands there, is installed and found wherever regressors are named."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from harness import LIMIT_S, level, values
from hsr.lifecycle import LifecycleClient
from hsr_msgs.msg import HumanArray

from hsr_core.results import load_people
from hsr_core.sources import open_source

PAGE = Path(__file__).parents[2] / "docs" / "add_a_regressor.md"
NAME = "hivis"


@pytest.fixture(scope="module")
def environ(tmp_path_factory) -> dict[str, str]:
    """Write the page's two files, install them into a folder, return an environment that has it."""
    package, site = tmp_path_factory.mktemp("hsr_hivis"), tmp_path_factory.mktemp("site")
    text = PAGE.read_text()
    for name, language in (("hsr_hivis.py", "python"), ("pyproject.toml", "toml")):
        (code,) = re.findall(rf"^`{re.escape(name)}`[^\n]*:\n\n```{language}\n(.*?)^```", text, re.M | re.S)
        (package / name).write_text(code)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--no-index"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(site), str(package)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))}


def python(environ: dict[str, str], *arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], env=os.environ | environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_registry_lists_it_and_its_module_is_not_imported_for_that(environ):
    code = (
        "import sys, json; from hsr_core.registry import names; from hsr_core.doctor import check_regressors;"
        "print(json.dumps([names('regressor'), check_regressors().summary, 'hsr_hivis' in sys.modules]))"
    )
    names, doctor, imported = json.loads(python(environ, "-c", code))
    assert NAME in names
    assert NAME in doctor
    assert not imported


def figures(frames: int) -> list[tuple[float, float, float, float]]:
    """Return the box of each synthetic picture's figure, by its colours: the wall is grey."""
    boxes = []
    with open_source("synthetic") as source:
        for _, frame in zip(range(frames), source, strict=False):
            image = frame.image.astype(int)
            rows, columns = np.nonzero(image.max(axis=-1) - image.min(axis=-1) > 30)
            boxes.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    return boxes


def test_hsr_run_takes_it_by_name_and_the_people_stand_where_the_picture_has_them(environ, tmp_path):
    out = tmp_path / "people.npz"
    arguments = ("run", "synthetic", "--regressor", NAME, "--max-frames", "5", "--out", str(out), "--json")
    summary = json.loads(
        python(environ, "-m", "hsr_core.cli", *arguments, "--set", "smoothing.enabled=false").splitlines()[-1]
    )
    assert summary["frames"] == summary["detected"] == 5
    people = load_people(out)
    K = people["K"]
    for joints, (x0, y0, x1, y1) in zip(people["joints"][:, 0], figures(5), strict=True):
        u, v, z = (K @ joints.T).tolist()
        u, v = np.array(u) / z, np.array(v) / z
        # Joints lie inside the skin: the head's a few per cent of the height below its top. Toes are nearer to the
        # camera than the middle that was placed, and lower by as much.
        assert y0 < v.min() < y0 + 0.2 * (y1 - y0)
        assert y1 - 0.1 * (y1 - y0) < v.max() < y1 + 0.02 * (y1 - y0)
        assert x0 - 0.2 * (y1 - y0) < u.mean() < x1


def test_the_perception_node_finds_it_and_names_it_in_its_diagnostics(rig, environ):
    people = rig.listen(HumanArray, "/human/people", 10)
    told = rig.listen(DiagnosticArray, "/diagnostics", 10)
    camera = ("-r", "image:=/camera/image_raw", "-r", "camera_info:=/camera/camera_info")
    settings = ("-p", f"regressor:={NAME}", "-p", "diagnostic_updater.period:=0.2")
    node = rig.start("perception", "hsr.perception_node", "--ros-args", *settings, *camera, environ=environ)
    rig.start("source", "hsr.source_node", "--ros-args", "-p", "source:=synthetic", "-p", "hfov_deg:=60.0")
    lifecycle = LifecycleClient(rig.node, rig.executor, "/human/perception")
    assert lifecycle.change("configure", 240.0), node.tail()  # the first start builds the body
    assert lifecycle.change("activate", LIMIT_S), node.tail()
    rig.wait(lambda: [message for message in people if message.humans], "people")

    def inference():
        found = [s for array in told for s in array.status if s.name == "perception: inference"]
        return [s for s in found if "regress p50/p99 [ms]" in values(s)]

    status = rig.wait(inference, "the inference status")[-1]
    assert values(status)["regressor"] == NAME
    assert values(status)["engine"] == "OpenCV on the CPU"
    assert level(status) < 2, status.message


def test_a_name_that_is_not_there_is_refused_with_those_that_are(environ):
    code = """
from hsr_core import errors, registry
try:
    registry.create("regressor", "hivi", None, None)
except errors.ConfigError as error:
    print(error)
"""
    text = python(environ, "-c", code)
    assert NAME in text
    assert "landmarks" in text
