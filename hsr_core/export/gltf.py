"""glTF 2.0 as one .glb: a skeleton with one animation a stretch, and where it may be passed on the skinned mesh.

Source:
    Khronos, glTF 2.0 Specification (ISO/IEC 12113:2022). Axes: y up, metres; a node above the skeleton turns the world.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..body.joints import JOINT_NAMES, N_JOINTS, PARENTS
from ..errors import ConfigError
from ..geometry.rotations import rotmat_to_quat_wxyz, wxyz_to_xyzw
from ..paths import written_whole
from ..types import Array, HumanParams
from .base import ExportOptions, Job
from .bvh import R_YUP_WORLD
from .motion import Motion, Stretch

_FLOAT, _UBYTE, _UINT = 5126, 5121, 5125
_ARRAY, _ELEMENTS = 34962, 34963
_BONES = 4
"""Joints that may move one vertex; the largest are kept."""
MESHES = ("auto", "off", "licensed")


class GlbExporter:
    """Keys are the frames that were seen, at their own times; nothing is resampled."""

    title = "glTF 2.0 (.glb)"
    suffix = ".glb"
    needs_robot = False

    def check(self, out: Path, options: ExportOptions) -> None:
        """Refuse an unknown choice of mesh."""
        if options.mesh not in MESHES:
            raise ConfigError(f"--mesh wants {', '.join(MESHES)}, not {options.mesh}")

    def write(self, job: Job) -> dict[str, Any]:
        motion = job.motion("zero-phase")
        stretches = job.moving(motion)
        mesh, why = _mesh(job, motion)
        glb = Glb(job.folder / "glb.bin")
        try:
            _add_skeleton(glb, motion, stretches[0], mesh)
            for i, stretch in enumerate(stretches):
                _add_animation(glb, motion, stretch, f"stretch_{i:03d}", job.folder)
            extras = job.header(motion, mesh=why, first_stamps_ns=[int(s.stamps[0]) for s in stretches])
            with written_whole(job.out) as file:
                glb.save(file, extras)
        finally:
            glb.close()
        frames = sum(len(stretch.frames) for stretch in stretches)
        return {"files": [job.out.name], "frames": frames, "animations": len(stretches), "mesh": why}


class Glb:
    """Collects a document: its binary part on the disk, the rest in memory.

    Args:
        path: For the binary part.
    """

    def __init__(self, path: Path) -> None:
        self._bin = path.open("w+b")
        self.document: dict[str, Any] = {"asset": {"version": "2.0"}, "bufferViews": [], "accessors": []}

    def add(self, values: Array, kind: str, component: int, *, target: int | None = None, bounds: bool = False) -> int:
        """Add an array (n, ...) and return its accessor. Written in blocks, so that it may be a memory map."""
        offset = self._bin.tell()
        for start in range(0, len(values), 65536):
            self._bin.write(np.ascontiguousarray(values[start : start + 65536]).tobytes())
        length = self._bin.tell() - offset
        self._bin.write(b"\0" * (-length % 4))
        view = {"buffer": 0, "byteOffset": offset, "byteLength": length} | ({"target": target} if target else {})
        self.document["bufferViews"].append(view)
        accessor: dict[str, Any] = {
            "bufferView": len(self.document["bufferViews"]) - 1,
            "componentType": component,
            "count": len(values),
            "type": kind,
        }
        if bounds:
            accessor["min"] = np.atleast_1d(np.min(values, axis=0)).tolist()
            accessor["max"] = np.atleast_1d(np.max(values, axis=0)).tolist()
        self.document["accessors"].append(accessor)
        return len(self.document["accessors"]) - 1

    def save(self, file: BinaryIO, extras: dict[str, Any]) -> None:
        """Write the .glb."""
        size = self._bin.tell()
        self.document["buffers"] = [{"byteLength": size}]
        self.document["asset"] |= {"generator": extras["generator"], "copyright": extras["licence_note"],
                                   "extras": extras}  # fmt: skip
        text = json.dumps(self.document, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        total = 12 + 8 + len(text) + 8 + size
        if total >= 1 << 32:
            raise ConfigError("a .glb holds 4 GB: export a shorter part")
        file.write(struct.pack("<4sII", b"glTF", 2, total))
        file.write(struct.pack("<I4s", len(text), b"JSON") + text)
        file.write(struct.pack("<I4s", size, b"BIN\0"))
        self._bin.seek(0)
        while block := self._bin.read(1 << 20):
            file.write(block)

    def close(self) -> None:
        self._bin.close()


def _mesh(job: Job, motion: Motion) -> tuple[dict[str, Array] | None, str]:
    """Return the mesh at rest, or None; and why."""
    facts = job.recorded.facts
    if job.options.mesh == "off":
        return None, "none: switched off"
    if facts.body_family != "OPEN" and job.options.mesh != "licensed":
        return None, "none: the body model's licence forbids passing its topology on (--mesh licensed, for own use)"
    from ..body import load_body

    body = load_body(job.options.body_models)
    if body.model_id != facts.body_model:
        if job.options.mesh == "licensed":
            raise ConfigError(f"the recording's body is {facts.body_model}, --body-models has {body.model_id}")
        return None, f"none: the recording's body is {facts.body_model}, this installation's {body.model_id}"
    params = _shape(motion, body)
    vertices, joints = body.rest(params)
    weights = body.layer.full.body.weights.cpu().numpy()
    return {"vertices": vertices, "joints": joints, "faces": body.faces, "weights": weights}, (
        "skinned; pose blend shapes, expression, lids, jaw and gaze of the head part are not in it"
    )


def _shape(motion: Motion, body: Any) -> HumanParams:
    """Return the person's shape: what the filters had at the last valid frame, when it was frozen."""
    frame = int(np.flatnonzero(motion.valid)[-1])
    at = slice(frame, frame + 1)
    names = ("betas", "head_betas", "head_scale")
    zero = {f"{n}": np.zeros(getattr(body, f"n_{n}"), np.float32) for n in ("expression", "head_expression")}
    return HumanParams(**{name: motion.track.read(name, at)[0] for name in names}, **zero)


def _add_skeleton(glb: Glb, motion: Motion, stretch: Stretch, mesh: dict[str, Array] | None) -> None:
    """Add the joints, posed as in the first frame, and the skin. Joints are nodes 0 to 54."""
    first = next(motion.frames_of(stretch))
    quats = wxyz_to_xyzw(rotmat_to_quat_wxyz(first.rotmats[0])).tolist()
    nodes: list[dict[str, Any]] = []
    offsets = motion.offsets if mesh is None else _offsets_of(mesh["joints"])
    for j, name in enumerate(JOINT_NAMES):
        place = first.pelvis[0] if j == 0 else offsets[j]
        node: dict[str, Any] = {"name": name, "translation": place.tolist(), "rotation": quats[j]}
        children = [k for k in range(N_JOINTS) if PARENTS[k] == j]
        nodes.append(node | ({"children": children} if children else {}))
    up = wxyz_to_xyzw(rotmat_to_quat_wxyz(R_YUP_WORLD)).tolist()
    nodes.append({"name": "world_z_up", "rotation": up, "children": [0]})
    roots = [N_JOINTS]
    if mesh is not None:
        roots.append(len(nodes))
        nodes.append({"name": "person", "mesh": 0, "skin": 0})
        _add_mesh(glb, mesh)
        bind = np.tile(np.eye(4, dtype=np.float32), (N_JOINTS, 1, 1))
        bind[:, :3, 3] = -mesh["joints"]
        matrices = glb.add(np.swapaxes(bind, 1, 2).reshape(N_JOINTS, 16), "MAT4", _FLOAT)  # columns first
        skin = {"joints": list(range(N_JOINTS)), "skeleton": 0, "inverseBindMatrices": matrices}
        glb.document["skins"] = [skin]
    glb.document |= {"nodes": nodes, "scenes": [{"nodes": roots}], "scene": 0, "animations": []}


def _offsets_of(joints: Array) -> Array:
    return joints - joints[np.array(PARENTS)]


def _add_mesh(glb: Glb, mesh: dict[str, Array]) -> None:
    order = np.argsort(-mesh["weights"], axis=1)[:, :_BONES]
    weights = np.take_along_axis(mesh["weights"], order, axis=1).astype(np.float64)
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    order = np.where(weights > 0, order, 0)  # the format wants joint 0 where nothing is taken
    vertices, faces = mesh["vertices"].astype(np.float32), mesh["faces"]
    attributes = {
        "POSITION": glb.add(vertices, "VEC3", _FLOAT, target=_ARRAY, bounds=True),
        "NORMAL": glb.add(_normals(vertices, faces), "VEC3", _FLOAT, target=_ARRAY),
        "JOINTS_0": glb.add(order.astype(np.uint8), "VEC4", _UBYTE, target=_ARRAY),
        "WEIGHTS_0": glb.add(weights, "VEC4", _FLOAT, target=_ARRAY),
    }
    index = glb.add(faces.reshape(-1).astype(np.uint32), "SCALAR", _UINT, target=_ELEMENTS)
    skin = {"baseColorFactor": [0.75, 0.62, 0.55, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.8}
    glb.document["materials"] = [{"name": "skin", "pbrMetallicRoughness": skin}]
    glb.document["meshes"] = [
        {"name": "person", "primitives": [{"attributes": attributes, "indices": index, "material": 0}]}
    ]


def _normals(vertices: Array, faces: Array) -> Array:
    a, b, c = (vertices[faces[:, i]].astype(np.float64) for i in range(3))
    across = np.cross(b - a, c - a)
    out = np.zeros(vertices.shape)
    for i in range(3):
        np.add.at(out, faces[:, i], across)
    length = np.linalg.norm(out, axis=1, keepdims=True)
    return np.where(length > 0, out / np.maximum(length, 1e-30), [0.0, 1, 0]).astype(np.float32)


def _add_animation(glb: Glb, motion: Motion, stretch: Stretch, name: str, folder: Path) -> None:
    """Add a stretch: the pelvis' place and every joint's rotation. Keys are gathered by joint on the disk."""
    n = len(stretch.frames)
    keys = np.memmap(folder / f"{name}.keys", np.float32, "w+", shape=(N_JOINTS, n, 4))
    pelvis = np.memmap(folder / f"{name}.pelvis", np.float32, "w+", shape=(n, 3))
    done = 0
    for pose in motion.frames_of(stretch):
        here = slice(done, done := done + len(pose.stamps))
        quats = wxyz_to_xyzw(rotmat_to_quat_wxyz(pose.rotmats))
        keys[:, here] = np.swapaxes(quats / np.linalg.norm(quats, axis=-1, keepdims=True), 0, 1)
        pelvis[here] = pose.pelvis
    times = ((stretch.stamps - stretch.stamps[0]) * 1e-9).astype(np.float32)
    time = glb.add(times, "SCALAR", _FLOAT, bounds=True)
    samplers = [{"input": time, "output": glb.add(pelvis, "VEC3", _FLOAT)}]
    targets = [{"sampler": 0, "target": {"node": 0, "path": "translation"}}]
    for j in range(N_JOINTS):
        samplers.append({"input": time, "output": glb.add(keys[j], "VEC4", _FLOAT)})
        targets.append({"sampler": j + 1, "target": {"node": j, "path": "rotation"}})
    glb.document["animations"].append({"name": name, "samplers": samplers, "channels": targets})


def create() -> GlbExporter:
    """Return the exporter."""
    return GlbExporter()
