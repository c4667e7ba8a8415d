"""Tiny data sets in their real layouts, with content that is worked out here and not by the library.

Every picture is grey with a white dot on each projected joint, so that a test can look whether the reference that an
adapter gives lies where the picture shows it.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from scipy.spatial.transform import Rotation
from synthetic_models import python2_dumps

HW = (120, 160)
K = np.array([[150.0, 0, 82.0], [0, 152.0, 57.0], [0, 0, 1]])
PARENTS_24 = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)

STANDING = np.array([
    [0, 0, 0], [.09, -.1, 0], [-.09, -.1, 0], [0, .1, 0], [.1, -.5, .02], [-.1, -.5, .02], [0, .25, 0], [.1, -.9, 0],
    [-.1, -.9, 0], [0, .3, 0], [.12, -.95, .12], [-.12, -.95, .12], [0, .5, 0], [.08, .42, 0], [-.08, .42, 0],
    [0, .6, .03], [.2, .43, 0], [-.2, .43, 0], [.45, .42, -.02], [-.45, .42, -.02], [.7, .43, 0], [-.7, .43, 0],
    [.78, .42, 0], [-.78, .42, 0],
])  # fmt: skip
"""SMPL's 24 joints of somebody in T-pose [m]: x to the person's left, y up, z where the person looks."""


@dataclass(frozen=True)
class Made:
    """What was written.

    Attributes:
        root: What `open_dataset` gets. sequence: The name of the sequence that the rest is about.
        joints: (N, people, J, 3) [m] camera frame. T_cam_world: (N, 4, 4) or None.
    """

    root: Path
    sequence: str
    joints: np.ndarray
    T_cam_world: np.ndarray | None = None


def camera_path(n: int, up: int = 1) -> np.ndarray:
    """Return T_cam_world (n, 4, 4): a camera 3 m away that looks at the origin and goes a little round it."""
    out = np.tile(np.eye(4), (n, 1, 1))
    flip = np.diag([1.0, -1.0, -1.0]) if up == 1 else np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    for i in range(n):
        turn = Rotation.from_euler("xyz", [4, 10 + 3 * i, 2], degrees=True).as_matrix()
        out[i, :3, :3] = turn @ flip
        out[i, :3, 3] = [0.05 * i, 0.1, 3.0]
    return out


def to_camera(points: np.ndarray, T: np.ndarray) -> np.ndarray:
    return np.einsum("ij,...j->...i", T[:3, :3], points) + T[:3, 3]


def pixels(points: np.ndarray, k: np.ndarray = K) -> np.ndarray:
    """Return the pixels of camera-frame points, centres at integers."""
    uvw = points @ k.T
    return uvw[..., :2] / uvw[..., 2:]


def picture(uv: np.ndarray, hw: tuple[int, int] = HW) -> np.ndarray:
    image = np.full((*hw, 3), 90, np.uint8)
    for u, v in uv.reshape(-1, 2):
        if np.isfinite([u, v]).all():
            cv2.circle(image, (round(u), round(v)), 2, (255, 255, 255), -1)
    return image


def write_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def people_24(n: int, count: int) -> np.ndarray:
    """Return (n, count, 24, 3) [m], world with y up: people side by side who step aside slowly."""
    shifts = np.array([[0.35 - 0.7 * p if count > 1 else 0.0, 0, 0.1 * p] for p in range(count)])
    return STANDING + shifts[None, :, None] + 0.02 * np.arange(n)[:, None, None, None] * np.array([1, 0, 0.5])


# --- 3DPW ---------------------------------------------------------------------------------------------------------


def threedpw_pickle(n: int = 5, people: int = 2) -> dict[str, object]:
    """Return a pickle: in frame 3 the camera is invalid for person 1, in frame 4 five points of person 0 are seen."""
    rng = np.random.default_rng(0)
    world, T = people_24(n, people), camera_path(n)
    rest_pelvis = np.array([0.0, -0.22, 0.03])
    uv = pixels(np.stack([to_camera(world[i], T[i]) for i in range(n)]))
    points = np.zeros((people, n, 3, 18))
    order = [15, 12, 17, 19, 21, 16, 18, 20, 2, 5, 8, 1, 4, 7, 15, 15, 15, 15]
    for p in range(people):
        points[p, :, :2] = uv[:, p, order].transpose(0, 2, 1)
        points[p, :, 2] = 0.9
    points[0, 4:, :, 5:] = 0
    valid = np.ones((people, n), np.uint8)
    if n > 3:
        valid[-1, 3] = 0
    return {
        "sequence": "square_walk_00",
        "poses": [rng.normal(0, 0.2, (n, 72)) for _ in range(people)],
        "trans": [world[:, p, 0] - rest_pelvis for p in range(people)],
        "betas": [rng.normal(0, 1, 10) for _ in range(people)],
        "genders": ["m", "f"][:people],
        "jointPositions": [world[:, p].reshape(n, 72) for p in range(people)],
        "poses2d": list(points),
        "campose_valid": list(valid),
        "cam_intrinsics": K,
        "cam_poses": T,
        "img_frame_ids": 2 * np.arange(n),
    }


def as_python2(value: object) -> object:
    """Return the same with byte strings, as Python 2 had them."""
    if isinstance(value, dict):
        return {as_python2(key): as_python2(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_python2(item) for item in value]
    return value.encode() if isinstance(value, str) else value


def make_threedpw(root: Path, n: int = 5, people: int = 2, split: str = "test") -> Made:
    data = threedpw_pickle(n, people)
    path = root / "sequenceFiles" / split / "square_walk_00.pkl"
    path.parent.mkdir(parents=True)
    path.write_bytes(python2_dumps(as_python2(data)))
    T = data["cam_poses"]
    joints = np.stack([to_camera(people_24(n, people)[i], T[i]) for i in range(n)])
    for i in range(n):
        write_image(root / "imageFiles" / "square_walk_00" / f"image_{i:05d}.jpg", picture(pixels(joints[i])))
    return Made(root, "square_walk_00", joints, T)


# --- SMPL and EMDB ------------------------------------------------------------------------------------------------


def smpl_arrays(seed: int) -> dict[str, np.ndarray]:
    """Return an SMPL of the true shapes: vertices around the joints they hang on."""
    rng = np.random.default_rng(seed)
    owner = rng.integers(0, 24, 6890)
    weights = np.zeros((6890, 24), np.float32)
    weights[np.arange(6890), owner] = 0.75
    weights[np.arange(6890), np.maximum(np.array(PARENTS_24)[owner], 0)] += 0.25
    regressor = np.zeros((24, 6890), np.float32)
    for j in range(24):
        mine = np.flatnonzero(owner == j)[:8]
        regressor[j, mine] = 1 / len(mine)
    return {
        "v_template": (STANDING[owner] + rng.normal(0, 0.03, (6890, 3))).astype(np.float32),
        "shapedirs": rng.normal(0, 0.004, (6890, 3, 10)).astype(np.float32),
        "posedirs": rng.normal(0, 0.001, (6890, 3, 207)).astype(np.float32),
        "J_regressor": regressor,
        "weights": weights,
        "kintree_table": np.array([[2**32 - 1, *PARENTS_24[1:]], range(24)], np.int64),
        "f": np.array([[0, 1, 2]], np.int64),
    }


def posed_joints(model: dict[str, np.ndarray], pose: np.ndarray, betas: np.ndarray, transl: np.ndarray) -> np.ndarray:
    """Return the 24 joints by walking down the tree."""
    rest = model["J_regressor"].astype(np.float64) @ (model["v_template"] + model["shapedirs"] @ betas)
    local = Rotation.from_rotvec(pose.reshape(24, 3)).as_matrix()
    turned, place = [local[0]], [rest[0]]
    for j in range(1, 24):
        parent = PARENTS_24[j]
        turned.append(turned[parent] @ local[j])
        place.append(place[parent] + turned[parent] @ (rest[j] - rest[parent]))
    return np.array(place) + transl


def make_emdb(root: Path, n: int = 4, name: str = "00_square", flags: tuple[bool, bool] = (True, False)) -> Made:
    """Write one sequence; frame 2 is no good frame. The joints are those of SMPL `smpl_arrays(0)`, male."""
    rng = np.random.default_rng(1)
    model, T = smpl_arrays(0), camera_path(n)
    poses, betas = rng.normal(0, 0.15, (n, 72)), rng.normal(0, 1, 10)
    poses[:, :3] = [0, 0.3, 0]
    transl = 0.02 * np.arange(n)[:, None] * np.array([1.0, 0, 0.5])
    joints = np.stack([to_camera(posed_joints(model, poses[i], betas, transl[i]), T[i]) for i in range(n)])
    uv = pixels(joints)
    data = {
        "gender": "male",
        "name": f"P0_{name}",
        "emdb1": flags[0],
        "emdb2": flags[1],
        "n_frames": n,
        "good_frames_mask": np.arange(n) != 2,
        "camera": {"intrinsics": K, "extrinsics": T, "width": HW[1], "height": HW[0]},
        "smpl": {"poses_root": poses[:, :3], "poses_body": poses[:, 3:], "trans": transl, "betas": betas},
        "kp2d": uv,
        "bboxes": {"bboxes": np.concatenate([uv.min(1), uv.max(1)], axis=1), "invalid_idxs": np.array([2])},
    }
    folder = root / "P0" / name
    folder.mkdir(parents=True)
    (folder / f"P0_{name}_data.pkl").write_bytes(pickle.dumps(data, protocol=4))
    for i in range(n):
        write_image(folder / "images" / f"{i:05d}.jpg", picture(uv[i]))
    return Made(root, f"P0/{name}", joints[:, None], T)


# --- EHF ----------------------------------------------------------------------------------------------------------

EHF_CAMERA = """EHF dataset, one camera.
Focal length:
[150.25]
[151.75]
Principal Point:
[82.5]
[57.25]
Distortion (zero):
[0.0 0.0 0.0 0.0 0.0]
Rotation: Rodrigues vector, 3x1
[-2.98747896]
[0.01172457]
[-0.05704687]
Translation:
[-0.03609917]
[0.43416458]
[2.37101226]
"""
EHF_K = np.array([[150.25, 0, 82.5], [0, 151.75, 57.25], [0, 0, 1]])


def make_ehf(root: Path, n: int = 2, kind: str = "png", ascii_ply: bool = False) -> Made:
    """Write meshes whose first 24 vertices are the joints."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "EHF_camera.txt").write_text(EHF_CAMERA)
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec([-2.98747896, 0.01172457, -0.05704687]).as_matrix()
    T[:3, 3] = [-0.03609917, 0.43416458, 2.37101226]
    rng = np.random.default_rng(2)
    joints = []
    for i in range(n):
        world = 0.6 * STANDING + [0.05 * i, 0, 0.2]
        vertices = world[rng.integers(0, 24, 10475)] + rng.normal(0, 0.01, (10475, 3))
        vertices[:24] = world
        write_ply(root / f"{i + 1:02d}_align.ply", vertices, ascii_ply)
        joints.append(to_camera(vertices[:24].astype(np.float32), T))
        uv = pixels(joints[-1], EHF_K)
        write_image(root / f"{i + 1:02d}_img.{kind}", picture(uv))
        points = np.concatenate([np.vstack([uv, uv[:1]]), np.full((25, 1), 0.8)], axis=1)
        people = [{"pose_keypoints_2d": points.ravel().tolist()}]
        (root / f"{i + 1:02d}_2Djnt.json").write_text(json.dumps({"people": people}))
    return Made(root, "EHF", np.array(joints)[:, None], np.tile(T, (n, 1, 1)))


def write_ply(path: Path, vertices: np.ndarray, ascii_ply: bool) -> None:
    kind = "ascii" if ascii_ply else "binary_little_endian"
    header = f"ply\nformat {kind} 1.0\ncomment made for a test\nelement vertex {len(vertices)}\n"
    header += "property float x\nproperty float y\nproperty float z\nproperty uchar red\n"
    header += "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    if ascii_ply:
        body = "".join(f"{x:.9g} {y:.9g} {z:.9g} 7\n" for x, y, z in vertices.astype(np.float32)) + "3 0 1 2\n"
        path.write_bytes((header + body).encode())
        return
    records = np.zeros(len(vertices), [("xyz", "<f4", 3), ("red", "u1")])
    records["xyz"], records["red"] = vertices, 7
    path.write_bytes(header.encode() + records.tobytes() + b"\x03" + np.arange(3, dtype="<i4").tobytes())


# --- AGORA --------------------------------------------------------------------------------------------------------


def make_agora(root: Path, n: int = 2, vertices: int | None = 10475, width: int = 128, nested: bool = False) -> Made:
    """Write n images of two people; the second is hidden by 95 % in image 0. Needs pyarrow."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    height = width * 9 // 16
    f = 28 / 36 * width
    k = np.array([[f, 0, width / 2], [0, f, height / 2], [0, 0, 1]])  # of the set: the first pixel's centre at 0.5
    n_joints = 127 if vertices != 6890 else 45
    rng = np.random.default_rng(3)
    names = [f"ag_validationset_renderpeople_flowers_5_15_{i:05d}.png" for i in range(n)]
    joints = np.zeros((n, 2, n_joints, 3))
    joints[:, :, :24] = [STANDING * [1, -1, -1] + [1.2 * (p - 0.5), 0.05, 4.5 + p] for p in range(2)]
    joints[:, :, 24:] = joints[:, :, :1] + rng.normal(0, 0.05, (n, 2, n_joints - 24, 3))
    uv = pixels(joints, k)
    for i, name in enumerate(names):
        small = name.replace(".png", "_1280x720.png")
        write_image(root / "validation" / small, picture(uv[i, :, :24] - 0.5, (height, width)))
    shape = (lambda a: [p.tolist() for p in a]) if nested else (lambda a: [p.ravel().tolist() for p in a])
    columns: dict[str, object] = {
        "imgPath": names,
        "occlusion": [[10.0, 95.0 if i == 0 else 20.0] for i in range(n)],
        "kid": [[False, True]] * n,
        "gt_joints_2d": [shape(uv[i] * 3840 / width) for i in range(n)],
        "gt_joints_3d": [shape(joints[i]) for i in range(n)],
    }
    if vertices:
        mesh = joints[:, :, :1] + rng.normal(0, 0.2, (n, 2, vertices, 3)).astype(np.float32)
        columns["gt_verts"] = [shape(mesh[i]) for i in range(n)]
    (root / "tables").mkdir(parents=True)
    pq.write_table(pa.table(columns), root / "tables" / "validation_0_withjv.parquet")
    return Made(root, "tables/validation_0_withjv", joints[:, :, :24])


# --- Human3.6M ----------------------------------------------------------------------------------------------------


def make_h36m(root: Path, n: int = 3, subject: int = 9, place: bool = False) -> Made:
    """Write one subject seen by cameras 1 and 4. `place`: t is where the camera stands, not the translation."""
    order = [0, 2, 5, 8, 1, 4, 7, 6, 12, 15, 15, 16, 18, 20, 17, 19, 21]
    world = people_24(n, 1)[:, 0][:, order] @ np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # z up
    T = camera_path(1, up=3)[0]
    t = -T[:3, :3].T @ T[:3, 3] if place else T[:3, 3]
    camera = {"R": T[:3, :3].tolist(), "t": (1000 * t).tolist(), "f": [K[0, 0], K[1, 1]], "c": [K[0, 2], K[1, 2]]}
    joints = to_camera(world, T)
    images, boxes = [], []
    for cam in (1, 4):
        folder = f"s_{subject:02d}_act_02_subact_01_ca_{cam:02d}"
        for i in range(n):
            name = f"{folder}/{folder}_{i + 1:06d}.jpg"
            write_image(root / "images" / name, picture(pixels(joints[i])))
            images.append({
                "id": len(images), "file_name": name, "width": HW[1], "height": HW[0], "subject": subject,
                "action_idx": 2, "subaction_idx": 1, "cam_idx": cam, "frame_idx": i,
            })  # fmt: skip
            boxes.append({"id": len(boxes), "image_id": len(boxes), "bbox": [40.0, 10.0, 80.0, 100.0]})
    folder = root / "annotations"
    folder.mkdir(parents=True, exist_ok=True)
    frames = {str(i): (1000 * world[i]).tolist() for i in range(n)}
    for kind, content in (
        ("data", {"images": images, "annotations": boxes}),
        ("camera", {"1": camera, "4": camera}),
        ("joint_3d", {"2": {"1": frames}}),
    ):
        (folder / f"Human36M_subject{subject}_{kind}.json").write_text(json.dumps(content))
    return Made(root, f"s_{subject:02d}_act_02_subact_01_ca_04", joints[:, None], np.tile(T, (n, 1, 1)))


# --- NeuMan -------------------------------------------------------------------------------------------------------


def make_neuman(root: Path, n: int = 4, name: str = "lab", scale: float = 0.4) -> Made:
    """Write one sequence with HUGS's fits; joints are those of SMPL `smpl_arrays(0)`, in units of the fitted body."""
    rng = np.random.default_rng(4)
    model, T = smpl_arrays(0), camera_path(n)
    poses, betas = rng.normal(0, 0.15, (n, 72)), rng.normal(0, 1, 10)
    transl = 0.02 * np.arange(n)[:, None] * np.array([1.0, 0, 0.5])
    bodies = np.stack([posed_joints(model, poses[i], betas, np.zeros(3)) for i in range(n)])
    T_colmap = T.copy()
    T_colmap[:, :3, 3] *= scale
    joints = np.stack([to_camera(scale * bodies[i] + scale * transl[i], T_colmap[i]) for i in range(n)])
    folder = root / name
    (folder / "sparse").mkdir(parents=True)
    camera = f"1 PINHOLE {HW[1]} {HW[0]} {K[0, 0]} {K[1, 1]} {K[0, 2] + 0.5} {K[1, 2] + 0.5}\n"
    (folder / "sparse" / "cameras.txt").write_text(f"# Camera list\n# CAMERA_ID, MODEL, ...\n{camera}")
    lines = ["# Image list with two lines of data per image:"]
    for i in reversed(range(n)):  # COLMAP's order is none
        x, y, z, w = Rotation.from_matrix(T_colmap[i, :3, :3]).as_quat()
        t = " ".join(map(repr, T_colmap[i, :3, 3].tolist()))
        lines += [f"{i + 1} {w!r} {x!r} {y!r} {z!r} {t} 1 {i:05d}.png".replace("np.float64(", "").replace(")", "")]
        lines += ["1.0 2.0 -1 3.0 4.0 7" if i % 2 else ""]
    (folder / "sparse" / "images.txt").write_text("\n".join(lines) + "\n")
    for i in range(n):
        uv = pixels(joints[i])
        write_image(folder / "images" / f"{i:05d}.png", picture(uv))
        mask = np.full(HW, 255, np.uint8)
        mask[20:100, 60:110] = 0
        write_image(folder / "segmentations" / f"{i:05d}.png", mask)
    for split, members in (("train", [0, 1]), ("val", [2]), ("test", [3])):
        (folder / f"{split}_split.txt").write_text("".join(f"{i:05d}.png\n" for i in members if i < n))
    (folder / "4d_humans").mkdir()
    np.savez(
        folder / "4d_humans" / "smpl_optimized_aligned_scale.npz", global_orient=poses[:, :3], body_pose=poses[:, 3:],
        betas=np.tile(betas, (n, 1)), transl=scale * transl, scale=np.full(n, scale),
    )  # fmt: skip
    return Made(root, name, joints[:, None] / scale, T)


def make_neuman_own(root: Path, n: int = 3, name: str = "bike") -> Made:
    """Write one sequence with NeuMan's own fits instead: a similarity for each image, scale 2.5."""
    made = make_neuman(root, n, name, scale=2.5)
    folder, model = root / name, smpl_arrays(0)
    with np.load(folder / "4d_humans" / "smpl_optimized_aligned_scale.npz") as fits:
        poses, betas = np.concatenate([fits["global_orient"], fits["body_pose"]], axis=1), fits["betas"]
    (folder / "4d_humans" / "smpl_optimized_aligned_scale.npz").unlink()
    joints, alignments = [], {}
    for i in range(n):
        R, t = Rotation.from_euler("y", 20 * i, degrees=True).as_matrix(), np.array([0.3, 0.1 * i, -0.2])
        alignments[f"{i:05d}.png"] = np.concatenate([2.5 * R, t[:, None]], axis=1).T
        world = posed_joints(model, poses[i], betas[i], np.zeros(3)) @ R.T + t / 2.5
        joints.append(to_camera(world, made.T_cam_world[i]))
        write_image(folder / "images" / f"{i:05d}.png", picture(pixels(joints[-1])))
    (folder / "smpl_output_optimized.pkl").write_bytes(pickle.dumps({1: {"pose": poses, "betas": betas}}))
    np.save(folder / "alignments.npy", np.array(alignments, object))
    return Made(root, name, np.array(joints)[:, None], made.T_cam_world)


# --- ours ---------------------------------------------------------------------------------------------------------


def make_synthetic(root: Path, frames: int = 2, people: int = 2) -> Made:
    from hsr_core.synth.command import write_scene
    from hsr_core.synth.scene import SceneOptions

    options = SceneOptions(frames=frames, image_hw=(72, 96), people=people, orbit="camera", noise="none", seed=4)
    write_scene(options, root)
    return Made(root, root.name, np.zeros((frames, people, 0, 3)))


def make_clip(root: Path, n: int = 5) -> Made:
    """Write two cameras; the second is upside down."""
    names = ("LShoulder", "RShoulder", "LElbow", "RElbow", "LWrist", "RWrist", "LHip", "RHip", "LKnee", "RKnee",
             "LAnkle", "RAnkle", "Nose", "LBigToe", "Neck")  # fmt: skip
    order = [16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8, 15, 10, 12]
    world = people_24(n, 1)[:, 0][:, order] @ np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    T = camera_path(1, up=3)[0]
    turned = np.diag([-1.0, -1, 1, 1]) @ T
    root.mkdir(parents=True, exist_ok=True)
    cameras = []
    for name, pose in (("left", T), ("upside_down", turned)):
        cameras.append({
            "name": name, "K": K.tolist(), "size": [HW[1], HW[0]],
            "R_cam_world": pose[:3, :3].tolist(), "t_cam_world": pose[:3, 3].tolist(),
        })  # fmt: skip
        write_video(root / f"{name}.mp4", [picture(pixels(to_camera(world[i], pose))) for i in range(n)])
    (root / "cameras.json").write_text(json.dumps({"cameras": cameras}))
    np.savez(root / "reference_3d.npz", joints=world, names=np.array(names), fps=20.0)
    return Made(root, "left", to_camera(world, T)[:, None], np.tile(T, (n, 1, 1)))


def write_video(
    path: Path, images: list[np.ndarray], fps: int = 20, codec: str = "mpeg4", pix_fmt: str = "yuv420p"
) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], pix_fmt
        stream.bit_rate = 4_000_000
        for image in images:
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


MAKERS = {
    "3dpw": make_threedpw,
    "emdb": make_emdb,
    "agora": make_agora,
    "ehf": make_ehf,
    "h36m": make_h36m,
    "neuman": make_neuman,
    "synthetic": make_synthetic,
    "clip": make_clip,
}
"""One maker for each built-in set: a folder that does not exist yet -> what was made there."""


def make(name: str, root: Path) -> Made:
    return MAKERS[name](root)
