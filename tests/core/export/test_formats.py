"""Each format is read back by something that is not the writer, and says the same."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from export_people import BEGIN_NS, STEP_NS, header_of, world_pose, write_recording
from scipy.spatial.transform import Rotation

from hsr_core.body.joints import JOINT_NAMES, PARENTS
from hsr_core.errors import MissingFile
from hsr_core.export import ExportOptions, export
from hsr_core.export.inputs import read_input
from hsr_core.export.motion import Motion
from hsr_core.results import load_people

YUP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
AS_RECORDED = ExportOptions(smoothing="recorded")


def motion_of(path, tmp_path, smoothing="recorded") -> Motion:
    folder = tmp_path / "look"
    folder.mkdir(exist_ok=True)
    return Motion(read_input(str(path), folder).chosen("primary")[0], smoothing)


@pytest.fixture
def recording(tmp_path, open_body):
    return write_recording(tmp_path / "people.npz", open_body, 40, T_world_cam=world_pose(3), raw_noise=0.01)


# npz


def test_npz_is_the_people_file_of_the_chosen_ones(tmp_path, open_body):
    path = write_recording(
        tmp_path / "people.npz", open_body, 40, missing=(9,), predicted=(12,), second=range(5, 30),
        T_world_cam=world_pose(3),
    )  # fmt: skip
    export(str(path), "npz", tmp_path / "one.npz", person="2", options=ExportOptions(smoothing="zero-phase"))
    before, after = load_people(path), load_people(tmp_path / "one.npz")
    assert set(before.arrays) <= set(after.arrays)
    np.testing.assert_array_equal(after["stamp_ns"], before["stamp_ns"][5:30])
    for name in ("track_id", "body_pose", "raw_body_pose", "joints", "state", "valid", "joint_quats_xyzw"):
        np.testing.assert_array_equal(after[name][:, 0], before[name][5:30, 1], err_msg=name)
    np.testing.assert_array_equal(after["K"], before["K"])
    np.testing.assert_allclose(after["zero_phase_joints"], after["joints"], atol=0.02)  # smooth already
    for name in ("source_sha256", "config_sha256", "body_model", "licence_note", "code_version", "conventions"):
        assert after.metadata[name], name
    export(str(path), "npz", tmp_path / "all.npz", person="all")
    everybody = load_people(tmp_path / "all.npz")
    for name in ("track_id", "joints", "valid"):
        np.testing.assert_array_equal(everybody[name], before[name], err_msg=name)


# bvh


def read_bvh(text: str) -> tuple[list[str], list[int], np.ndarray, np.ndarray, float]:
    """A reader of its own: names, parents, offsets, frames, frame time."""
    head, _, body = text.partition("MOTION")
    names, parents, offsets, stack = [], [], [], []
    site = False
    for line in head.splitlines():
        word = line.split()
        if not word:
            continue
        if word[0] in ("ROOT", "JOINT"):
            parents.append(stack[-1] if stack else -1)
            names.append(word[1])
            stack.append(len(names) - 1)
        elif word[0] == "End":
            site = True
        elif word[0] == "OFFSET" and not site:
            offsets.append([float(x) for x in word[1:]])
        elif word[0] == "CHANNELS":
            assert word[-3:] == ["Zrotation", "Xrotation", "Yrotation"]
        elif word[0] == "}":
            if site:
                site = False
            else:
                stack.pop()
    lines = body.strip().splitlines()
    frames = np.array([[float(x) for x in line.split()] for line in lines[2:]])
    assert len(frames) == int(lines[0].split(":")[1])
    return names, parents, np.array(offsets), frames, float(lines[1].split(":")[1])


def test_bvh_joints_are_ours(recording, tmp_path):
    told = export(str(recording), "bvh", tmp_path / "walk.bvh", options=AS_RECORDED)
    assert told["files"] == ["walk_cm.bvh", "walk_cm.bvh.json"]
    names, parents, offsets, frames, step = read_bvh((tmp_path / "walk_cm.bvh").read_text())
    assert sorted(names) == sorted(JOINT_NAMES)
    assert 1 / step == pytest.approx(30, rel=1e-6)
    motion = motion_of(recording, tmp_path)
    want = motion.joints_m(motion.read(slice(0, 40))) @ YUP.T
    places, turns = np.zeros((len(frames), 55, 3)), np.zeros((len(frames), 55, 3, 3))
    for j, name in enumerate(names):
        z, x, y = np.radians(frames[:, 3 + 3 * j : 6 + 3 * j]).T
        local = Rotation.from_rotvec(z[:, None] * [0, 0, 1]) * Rotation.from_rotvec(x[:, None] * [1, 0, 0])
        local = (local * Rotation.from_rotvec(y[:, None] * [0, 1, 0])).as_matrix()
        p = parents[j]
        assert (JOINT_NAMES[PARENTS[JOINT_NAMES.index(name)]] if p >= 0 else "pelvis") == names[max(p, 0)]
        turns[:, j] = local if p < 0 else turns[:, p] @ local
        places[:, j] = frames[:, :3] if p < 0 else places[:, p] + turns[:, p] @ offsets[j]
    ours = want[:, [JOINT_NAMES.index(name) for name in names]]
    np.testing.assert_allclose(places[:-1] / 100, ours[: len(frames) - 1], atol=1e-4)
    beside = json.loads((tmp_path / "walk_cm.bvh.json").read_text())
    assert beside["units"] == "cm"
    assert beside["first_stamp_ns"] == BEGIN_NS
    assert beside["licence_note"]


def test_a_gap_makes_two_files_and_a_short_one_is_named(tmp_path, open_body):
    path = write_recording(tmp_path / "p.npz", open_body, 40, missing=(5, *range(15, 24)))
    told = export(str(path), "bvh", tmp_path / "w_m.bvh", options=ExportOptions(units="m"))
    assert [f for f in told["files"] if f.endswith("bvh")] == ["w_m_000.bvh", "w_m_001.bvh"]
    assert json.loads((tmp_path / "w_m_000.bvh.json").read_text())["frames_bridged"] == [5]
    assert json.loads((tmp_path / "w_m_001.bvh.json").read_text())["first_stamp_ns"] == BEGIN_NS + 24 * STEP_NS


# glb


def read_glb(path):
    data = path.read_bytes()
    length = struct.unpack("<I", data[12:16])[0]
    document, binary = json.loads(data[20 : 20 + length]), data[28 + length :]
    kinds = {5126: np.float32, 5121: np.uint8, 5125: np.uint32}
    sizes = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}

    def get(i):
        a = document["accessors"][i]
        view = document["bufferViews"][a["bufferView"]]
        count = a["count"] * sizes[a["type"]]
        return np.frombuffer(binary, kinds[a["componentType"]], count, view["byteOffset"]).reshape(a["count"], -1)

    return document, get


def test_glb_skins_to_the_body_s_vertices(recording, tmp_path, open_body):
    told = export(str(recording), "glb", tmp_path / "walk.glb", options=AS_RECORDED)
    assert told["mesh"].startswith("skinned")
    document, get = read_glb(tmp_path / "walk.glb")
    nodes, animation = document["nodes"], document["animations"][0]
    frame, people = 17, load_people(recording)
    trs = [(np.array(n.get("translation", [0, 0, 0])), np.array(n.get("rotation", [0, 0, 0, 1]))) for n in nodes]
    for channel in animation["channels"]:
        sampler = animation["samplers"][channel["sampler"]]
        node, value = channel["target"]["node"], get(sampler["output"])[frame]
        moved = channel["target"]["path"] == "translation"
        trs[node] = (value, trs[node][1]) if moved else (trs[node][0], value)
    times = get(animation["samplers"][0]["input"])[:, 0]
    np.testing.assert_allclose(times, (people["stamp_ns"] - people["stamp_ns"][0]) * 1e-9, atol=1e-6)
    world = {}

    def walk(i, above):
        local = np.eye(4)
        local[:3, :3], local[:3, 3] = Rotation.from_quat(trs[i][1]).as_matrix(), trs[i][0]
        world[i] = above @ local
        for child in nodes[i].get("children", []):
            walk(child, world[i])

    for root in document["scenes"][0]["nodes"]:
        walk(root, np.eye(4))
    skin, primitive = document["skins"][0], document["meshes"][0]["primitives"][0]
    bind = np.swapaxes(get(skin["inverseBindMatrices"]).reshape(-1, 4, 4), 1, 2)
    matrices = np.stack([world[j] for j in skin["joints"]]) @ bind
    at = {name: get(i) for name, i in primitive["attributes"].items()}
    homogeneous = np.c_[at["POSITION"], np.ones(len(at["POSITION"]))]
    moved = np.einsum("vkab,vb,vk->va", matrices[at["JOINTS_0"]], homogeneous, at["WEIGHTS_0"])[:, :3]
    person = people.params(frame, 0)
    still = {"expression": person.expression * 0, "head_expression": person.head_expression * 0}
    posed = open_body.pose_one(type(person)(**{**vars(person), **still}))
    T = world_pose(3)
    want = (posed.vertices @ T[:3, :3].T + T[:3, 3]) @ YUP.T
    # Four joints a vertex instead of all: the largest weights that are left out sum to a few hundredths.
    apart = np.linalg.norm(moved - want, axis=1)
    assert apart.mean() < 2e-4
    assert apart.max() < 0.01
    np.testing.assert_array_equal(get(primitive["indices"]).reshape(-1, 3), open_body.faces)
    assert document["asset"]["copyright"] == open_body.licence_note


def test_trimesh_reads_the_glb(recording, tmp_path, open_body):
    trimesh = pytest.importorskip("trimesh")
    export(str(recording), "glb", tmp_path / "walk.glb")
    scene = trimesh.load(tmp_path / "walk.glb")
    (mesh,) = scene.geometry.values()
    assert len(mesh.faces) == len(open_body.faces)
    assert np.ptp(mesh.vertices[:, 1]) == pytest.approx(
        np.ptp(open_body.rest(load_people(recording).params(0, 0))[0][:, 1])
    )


def test_a_licensed_topology_is_not_passed_on_unasked(tmp_path, synthetic_body, model_folder):
    path = write_recording(tmp_path / "p.npz", synthetic_body, 4)
    told = export(str(path), "glb", tmp_path / "a.glb")
    assert "licence forbids" in told["mesh"]
    assert "meshes" not in read_glb(tmp_path / "a.glb")[0]
    options = ExportOptions(mesh="licensed", body_models=str(model_folder[0]))
    export(str(path), "glb", tmp_path / "b.glb", options=options)
    assert "meshes" in read_glb(tmp_path / "b.glb")[0]


# amass


def smplx_vertices(file, k: int, body) -> np.ndarray:
    """Pose SMPL-X from an npz by the formulas of its paper, from the model's arrays."""
    mesh = body.layer.full.body
    template, shapedirs = mesh.template.numpy().astype(float), mesh.shapedirs.numpy().astype(float)
    betas = file["betas"]
    rest = template + (betas @ shapedirs[: len(betas)]).reshape(-1, 3)
    regressor = np.zeros((55, len(rest)))
    regressor[:, mesh.regressed.numpy()] = mesh.J_regressor.numpy()
    joints = regressor @ rest
    local = Rotation.from_rotvec(file["poses"][k].reshape(55, 3)).as_matrix()
    rest = rest + ((local[1:] - np.eye(3)).reshape(-1) @ mesh.posedirs.numpy()).reshape(-1, 3)
    G = np.zeros((55, 4, 4))
    for j in range(55):
        A = np.eye(4)
        A[:3, :3], A[:3, 3] = local[j], joints[j] - (joints[PARENTS[j]] if j else 0)
        G[j] = A if j == 0 else G[PARENTS[j]] @ A
    joined = G[:, :3, :3] @ joints[..., None]
    shift = G[:, :3, 3] - joined[..., 0]
    per_joint = np.einsum("jab,vb->jva", G[:, :3, :3], rest) + shift[:, None]
    return np.einsum("vj,jva->va", mesh.weights.numpy(), per_joint) + file["trans"][k]


def test_amass_in_two_worlds_is_one_body(tmp_path, synthetic_body, model_folder):
    options = ExportOptions(smoothing="recorded", body_models=str(model_folder[0]))
    files = []
    for seed in (1, 2):
        path = write_recording(tmp_path / f"{seed}.npz", synthetic_body, 6, T_world_cam=world_pose(seed))
        told = export(str(path), "amass", tmp_path / f"amass_{seed}.npz", options=options)
        assert told["shape"] == "taken over"
        files.append(dict(np.load(tmp_path / f"amass_{seed}.npz", allow_pickle=False)))
    change = world_pose(2) @ np.linalg.inv(world_pose(1))
    a, b = (smplx_vertices(file, 3, synthetic_body) for file in files)
    np.testing.assert_allclose(a @ change[:3, :3].T + change[:3, 3], b, atol=1e-5)
    person = load_people(tmp_path / "1.npz").params(3, 0)
    ours = np.concatenate([person.body_pose.reshape(-1), person.jaw_pose, person.leye_pose, person.reye_pose,
                           person.left_hand_pose.reshape(-1), person.right_hand_pose.reshape(-1)])  # fmt: skip
    np.testing.assert_allclose(files[0]["poses"][3, 3:], ours, atol=1e-3)  # the rate is uniform, the stamps rounded
    np.testing.assert_allclose(files[0]["betas"], person.betas[:16], atol=1e-6)
    keys = {"gender", "surface_model_type", "mocap_frame_rate", "trans", "poses", "root_orient", "pose_body",
            "pose_hand", "pose_jaw", "pose_eye", "betas", "hsr_raw_poses"}  # fmt: skip
    assert keys <= set(files[0])
    assert [files[0][k].shape for k in ("poses", "trans", "pose_hand")] == [(6, 165), (6, 3), (6, 90)]
    assert float(files[0]["mocap_frame_rate"]) == 30
    whole = np.concatenate([files[0][k] for k in ("root_orient", "pose_body", "pose_jaw", "pose_eye", "pose_hand")], 1)
    np.testing.assert_array_equal(whole, files[0]["poses"])
    assert header_of(tmp_path / "amass_1.npz")["licence_note"]


def test_amass_from_the_open_body_is_a_fit_that_says_so_and_needs_smplx(recording, tmp_path, model_folder, monkeypatch):
    monkeypatch.delenv("HSR_BODY_MODELS", raising=False)
    with pytest.raises(MissingFile, match="--body-models"):
        export(str(recording), "amass", tmp_path / "a.npz")
    assert not (tmp_path / "a.npz").exists()
    options = ExportOptions(body_models=str(model_folder[0]))
    told = export(str(recording), "amass", tmp_path / "a.npz", options=options)
    assert told["shape"].startswith("fitted")
    assert header_of(tmp_path / "a.npz")["fit_residual_mm"] == told["fit_residual_mm"] > 0


def test_a_fit_to_a_skeleton_of_smplx_finds_it(synthetic_body):
    from hsr_core.export.smplx_shape import aligning, fit_betas

    rng = np.random.default_rng(0)
    joints, dirs = rng.normal(0, 0.3, (55, 3)), rng.normal(0, 0.02, (55, 3, 16))
    betas = rng.normal(0, 1, 16)
    rest = joints + dirs @ betas
    offsets = rest - rest[np.array(PARENTS)]
    offsets[0] = 0
    found = joints + dirs @ fit_betas(offsets, joints, dirs)
    bones = np.linalg.norm(found - found[np.array(PARENTS)], axis=1)
    np.testing.assert_allclose(bones[1:], np.linalg.norm(offsets, axis=1)[1:], atol=2e-3)
    np.testing.assert_allclose(aligning(offsets, offsets), np.tile(np.eye(3), (55, 1, 1)), atol=1e-9)
    R = Rotation.random(random_state=1).as_matrix()
    got = aligning(offsets, offsets @ R.T)
    branched = [0, 9, 20, 21]  # joints with bones in several directions have one answer
    np.testing.assert_allclose(got[branched], np.tile(R, (4, 1, 1)), atol=5e-3)


# mcap


def test_mcap_is_read_by_another_reader_and_as_an_input(recording, tmp_path, monkeypatch):
    pytest.importorskip("mcap_ros2")
    from mcap_ros2.reader import read_ros2_messages

    with monkeypatch.context() as names:
        names.setattr("hsr_core.export.mcap.FRAME_ID", "head_camera")
        names.setattr("hsr_core.export.mcap.WORLD", "odom")
        export(str(recording), "mcap", tmp_path / "recorded")
    export(str(tmp_path / "recorded"), "mcap", tmp_path / "bag")
    (file,) = (tmp_path / "bag").glob("*.mcap")
    messages = [m.ros_msg for m in read_ros2_messages(str(file)) if m.channel.topic == "/human/people"]
    people = load_people(recording)
    assert len(messages) == 40
    assert {(message.header.frame_id, message.world_frame) for message in messages} == {("head_camera", "odom")}
    for i in (0, 21):
        message = messages[i]
        assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == people["stamp_ns"][i]
        (human,) = message.humans
        np.testing.assert_array_equal(np.float32(human.joints).reshape(55, 3), people["joints"][i, 0])
        np.testing.assert_array_equal(np.float32(human.body_pose).reshape(21, 3), people["body_pose"][i, 0])
    export(str(recording), "bvh", tmp_path / "a.bvh", options=AS_RECORDED)
    export(str(tmp_path / "bag"), "bvh", tmp_path / "b.bvh", options=AS_RECORDED)
    a, b = (read_bvh((tmp_path / f"{name}_cm.bvh").read_text())[3] for name in "ab")
    np.testing.assert_allclose(a, b, atol=2e-3)  # [cm, deg]; the camera's pose goes through a quaternion
