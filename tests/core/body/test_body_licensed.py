"""EHM-s on generated files of the true shapes, and what happens with files that are not right."""

from __future__ import annotations

import logging
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import synthetic_models as synthetic

from hsr_core.body import EhmBody, EhmParams, load_body
from hsr_core.body.joints import PARENTS, J
from hsr_core.body.numbers_pickle import read_pickle
from hsr_core.errors import BadFile, MissingFile
from hsr_core.geometry.rotations import rotvec_to_rotmat
from hsr_core.types import HumanParams

NEUTRAL = HumanParams()
NEEDED = ("SMPLX_NEUTRAL_2020.npz", "generic_model.pkl", "SMPL-X__FLAME_vertex_ids.npy", "FLAME_masks.pkl")


def replaced(folder_and_content):
    """Head vertices that are grafted, the body vertices they land on, and the mask of those."""
    content = folder_and_content[1]
    heads = np.setdiff1d(np.arange(synthetic.N), content["kept"])
    bodies = content["ids"][heads]
    return heads, bodies


def eye_shift(content) -> np.ndarray:
    smplx, flame = content["smplx"], content["flame"]
    body_eyes = (smplx["J_regressor"] @ smplx["v_template"])[[23, 24]].mean(axis=0)
    head_eyes = (flame["J_regressor"] @ flame["v_template"])[[3, 4]].mean(axis=0)
    return body_eyes - head_eyes


def with_(**values) -> HumanParams:
    return HumanParams(**{name: np.asarray(value, np.float32) for name, value in values.items()})


def body_pose(**joints) -> np.ndarray:
    pose = np.zeros((21, 3), np.float32)
    for name, rotvec in joints.items():
        pose[J[name] - 1] = rotvec
    return pose


def test_counts_and_names_of_the_licensed_family(synthetic_body: EhmBody):
    counts = [getattr(synthetic_body, f"n_{n}") for n in ("betas", "expression", "head_betas", "head_expression")]
    assert counts == [200, 50, 300, 50]
    assert synthetic_body.family == "EHMS"
    assert synthetic_body.n_vertices == 10475
    assert synthetic_body.faces.shape == (20908, 3)
    assert synthetic_body.faces.dtype == np.int32
    assert "non-commercial" in synthetic_body.licence_note


def test_neutral_is_the_template_with_the_flame_template_at_the_eyes(synthetic_body, model_folder):
    content = model_folder[1]
    heads, bodies = replaced(model_folder)
    assert len(heads) == 4708
    assert len(content["kept"]) == 315
    vertices = synthetic_body.pose_one(NEUTRAL).vertices
    expected = content["smplx"]["v_template"].copy()
    expected[bodies] = content["flame"]["v_template"][heads] + eye_shift(content)
    np.testing.assert_allclose(vertices, expected, atol=2e-6)  # float32


def test_hand_scale_and_flame_pose_are_not_parameters():
    assert not {"hand_scale", "pose_params", "neck_pose"} & set(EhmParams.__dataclass_fields__)


def test_the_pelvis_stays_when_the_root_turns(synthetic_body):
    turned = synthetic_body.pose_one(with_(global_orient=[0.4, -1.1, 0.3]))
    np.testing.assert_allclose(turned.joints[0], synthetic_body.pose_one(NEUTRAL).joints[0], atol=1e-6)


def test_the_seam_ignores_every_head_parameter(synthetic_body, model_folder):
    content, rng = model_folder[1], np.random.default_rng(1)
    seam = content["ids"][content["kept"]]
    changed = with_(
        jaw_pose=[0.3, 0.1, 0], leye_pose=[0.1, 0.2, 0], eyelids=[1, 0.5], head_scale=[1.2, 0.9, 1.1],
        head_betas=rng.normal(size=300), head_expression=rng.normal(size=50),
    )  # fmt: skip
    np.testing.assert_array_equal(synthetic_body.rest(changed)[0][seam], synthetic_body.rest(NEUTRAL)[0][seam])


def test_turning_the_root_turns_everything_about_the_pelvis(synthetic_body):
    rotvec = np.array([0.7, -0.4, 1.2], np.float32)
    start, turned = synthetic_body.pose_one(NEUTRAL), synthetic_body.pose_one(with_(global_orient=rotvec))
    pelvis, R = start.joints[0], rotvec_to_rotmat(rotvec)
    np.testing.assert_allclose(turned.vertices, (start.vertices - pelvis) @ R.T + pelvis, atol=5e-6)


def test_the_head_joint_moves_grafted_vertices_by_their_weights(synthetic_body, model_folder):
    content = model_folder[1]
    _, bodies = replaced(model_folder)
    rotvec = np.array([0.0, 0.8, 0.0], np.float32)
    rest, joints = synthetic_body.rest(NEUTRAL)
    moved = synthetic_body.pose_one(with_(body_pose=body_pose(head=rotvec))).vertices
    follows = np.array([J["head"], J["jaw"], J["left_eye_smplhf"], J["right_eye_smplhf"]])
    share = content["smplx"]["weights"][bodies][:, follows].sum(axis=1, keepdims=True)
    basis = content["smplx"]["posedirs"].reshape(-1, 54, 9)[:, J["head"] - 1]
    pose_offset = (basis @ (rotvec_to_rotmat(rotvec) - np.eye(3)).ravel()).reshape(-1, 3)[bodies]
    before = rest[bodies] + pose_offset
    turned = (before - joints[J["head"]]) @ rotvec_to_rotmat(rotvec).T + joints[J["head"]]
    np.testing.assert_allclose(moved[bodies], (1 - share) * before + share * turned, atol=5e-6)


def test_head_scale_x_stretches_x_of_the_grafted_head_and_nothing_else(synthetic_body, model_folder):
    heads, bodies = replaced(model_folder)
    rest, wide = (synthetic_body.rest(with_(head_scale=s))[0] for s in ([1, 1, 1], [1.1, 1, 1]))
    expected = np.zeros_like(rest)
    expected[bodies, 0] = 0.1 * model_folder[1]["flame"]["v_template"][heads, 0]
    np.testing.assert_allclose(wide - rest, expected, atol=1e-6)


def test_lids_are_added_after_the_jaw_has_turned(synthetic_body, model_folder):
    heads, bodies = replaced(model_folder)
    jaw = np.array([0.5, 0.2, 0.1])
    rest, shut = (synthetic_body.rest(with_(jaw_pose=jaw, eyelids=lids))[0] for lids in ([0, 0], [1, 0.5]))
    lids = model_folder[1]["lids"]
    np.testing.assert_allclose((shut - rest)[bodies], (lids[0] + 0.5 * lids[1])[heads], atol=1e-6)


def test_joints_are_regressed_from_the_grafted_template(synthetic_body, model_folder):
    params = with_(head_scale=[1.2, 1.2, 1.2], jaw_pose=[0.4, 0, 0], betas=np.linspace(-2, 2, 200))
    vertices, joints = synthetic_body.rest(params)
    np.testing.assert_allclose(joints, model_folder[1]["smplx"]["J_regressor"] @ vertices, atol=2e-6)


def test_shape_and_expression_columns(synthetic_body, model_folder):
    content = model_folder[1]
    heads, bodies = replaced(model_folder)
    betas, expression = np.zeros(200), np.zeros(50)
    betas[7], expression[3] = 2.0, -1.5
    rest = synthetic_body.rest(with_(betas=betas, expression=expression))[0]
    dirs = content["smplx"]["shapedirs"]
    expected = content["smplx"]["v_template"] + 2.0 * dirs[..., 7] - 1.5 * dirs[..., 303]
    outside = np.setdiff1d(np.arange(synthetic.V), bodies)
    np.testing.assert_allclose(rest[outside], expected[outside], atol=1e-6)
    # The head moves with the body's eyes, and changes by its own columns 5 and 302.
    head = synthetic_body.rest(with_(head_betas=np.eye(300)[5], head_expression=np.eye(50)[2]))[0]
    flame = content["flame"]
    shaped = flame["v_template"] + flame["shapedirs"][..., 5] + flame["shapedirs"][..., 302]
    eyes = (flame["J_regressor"] @ shaped)[[3, 4]].mean(axis=0)
    body_eyes = (content["smplx"]["J_regressor"] @ content["smplx"]["v_template"])[[23, 24]].mean(axis=0)
    np.testing.assert_allclose(head[bodies], shaped[heads] - eyes + body_eyes, atol=2e-6)


def test_height_can_be_asked_for(synthetic_body):
    start = synthetic_body.stature(np.zeros(200))
    betas = synthetic_body.betas_for_height(start + 0.05)
    assert synthetic_body.stature(betas) == pytest.approx(start + 0.05, abs=2e-4)


# --- files ------------------------------------------------------------------------------------------------------


def linked(source: Path, target: Path, leave_out: str = "") -> Path:
    target.mkdir()
    for path in source.iterdir():
        if path.name != leave_out:
            (target / path.name).symlink_to(path)
    return target


def test_the_published_subfolders_are_accepted_and_the_environment_names_the_folder(
    tmp_path, model_folder, monkeypatch
):
    flat = model_folder[0]
    places = {
        "SMPLX": ["SMPLX_NEUTRAL_2020.npz", "SMPL-X__FLAME_vertex_ids.npy"],
        "FLAME/FLAME2020": ["generic_model.pkl"],
    }
    places["FLAME"] = ["FLAME_masks.pkl", "l_eyelid.npy", "r_eyelid.npy"]
    for folder, names in places.items():
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            (tmp_path / folder / name).symlink_to(flat / name)
    monkeypatch.setenv("HSR_BODY_MODELS", str(tmp_path))
    assert load_body().model_id == load_body(flat).model_id


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("SMPLX_NEUTRAL_2020.npz", "smpl-x.is.tue.mpg.de"),
        ("generic_model.pkl", "flame.is.tue.mpg.de"),
        ("SMPL-X__FLAME_vertex_ids.npy", "smpl-x.is.tue.mpg.de"),
        ("FLAME_masks.pkl", "flame.is.tue.mpg.de"),
    ],
)
def test_a_missing_file_is_named_with_its_source_and_place(tmp_path, model_folder, name, site):
    folder = linked(model_folder[0], tmp_path / "m", leave_out=name)
    with pytest.raises(MissingFile) as caught:
        load_body(folder)
    text = str(caught.value)
    assert name in text
    assert site in text
    assert str(folder) in text
    assert "1 body model file" in text


def test_a_folder_that_does_not_exist_names_the_setting_and_all_files(tmp_path):
    with pytest.raises(MissingFile, match="nowhere, which does not exist") as caught:
        load_body(tmp_path / "nowhere")
    text = str(caught.value)
    assert "HSR_BODY_MODELS" in text
    for name in NEEDED:
        assert f"put it at {tmp_path / 'nowhere' / name}\n" in text


def test_every_place_that_the_message_names_is_looked_at(tmp_path, model_folder):
    """Move the files one by one to where the message asks for them; then the body loads."""
    folder = tmp_path / "m"
    for left in range(4, 0, -1):
        with pytest.raises(MissingFile, match=f"{left} body model file") as caught:
            load_body(folder)
        place = Path(str(caught.value).partition("put it at ")[2].splitlines()[0])
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(model_folder[0] / place.name)
    assert load_body(folder).family == "EHMS"


def test_without_eyelid_files_the_lids_stay_and_it_is_said(tmp_path, model_folder, caplog):
    folder = linked(model_folder[0], tmp_path / "m", leave_out="l_eyelid.npy")
    (folder / "r_eyelid.npy").unlink()
    with caplog.at_level(logging.WARNING):
        body = load_body(folder)
    assert "l_eyelid.npy" in caplog.text
    open_, shut = (body.rest(with_(eyelids=e))[0] for e in ([0, 0], [1, 1]))
    np.testing.assert_array_equal(open_, shut)


def spoiled(tmp_path: Path, model_folder, name: str, data: bytes) -> Path:
    folder = linked(model_folder[0], tmp_path / "m", leave_out=name)
    (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("keep", [0, 100, 100_000])
@pytest.mark.parametrize("name", ["SMPLX_NEUTRAL_2020.npz", "generic_model.pkl", "FLAME_masks.pkl", "l_eyelid.npy"])
def test_a_truncated_file_is_refused_by_name(tmp_path, model_folder, name, keep):
    data = (model_folder[0] / name).read_bytes()
    folder = spoiled(tmp_path, model_folder, name, data[: min(keep, len(data) // 2)])
    with pytest.raises(BadFile, match=name.replace(".", r"\.")):
        load_body(folder)


def save_smplx(tmp_path: Path, model_folder, **changes) -> Path:
    arrays = dict(model_folder[1]["smplx"])
    for name, value in changes.items():
        if value is None:
            arrays.pop(name)
        else:
            arrays[name] = value
    folder = linked(model_folder[0], tmp_path / "m", leave_out="SMPLX_NEUTRAL_2020.npz")
    np.savez(folder / "SMPLX_NEUTRAL_2020.npz", **arrays)
    return folder


def test_other_shape_spaces_are_refused(tmp_path, model_folder):
    dirs = model_folder[1]["smplx"]["shapedirs"]
    with pytest.raises(BadFile, match="20 columns, not 400") as caught:
        load_body(save_smplx(tmp_path, model_folder, shapedirs=dirs[..., :20]))
    assert "v1.1" in str(caught.value)


def test_values_that_are_not_finite_are_refused(tmp_path, model_folder):
    template = model_folder[1]["smplx"]["v_template"].copy()
    template[5, 1] = np.nan
    with pytest.raises(BadFile, match="v_template holds values that are not finite"):
        load_body(save_smplx(tmp_path, model_folder, v_template=template))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": None}, "no array 'weights'"),
        ({"weights": np.zeros((10475, 24))}, r"weights must have shape \(10475, 55\)"),
        ({"posedirs": np.zeros((10475, 3, 207), np.float32)}, "posedirs must have 486 columns"),
        ({"v_template": np.zeros((6890, 3))}, "6890 vertices"),
        ({"weights": np.zeros((10475, 55))}, "rows of weights must sum to one"),
        ({"f": np.full((4, 3), 10475)}, "vertices 0..10474"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path, model_folder, changes, message):
    with pytest.raises(BadFile, match=message):
        load_body(save_smplx(tmp_path, model_folder, **changes))


def test_a_sparse_regressor_inside_the_npz_is_read(tmp_path, model_folder, synthetic_body):
    sparse = np.empty((), object)
    sparse[()] = scipy.sparse.csc_matrix(model_folder[1]["smplx"]["J_regressor"])
    body = load_body(save_smplx(tmp_path, model_folder, J_regressor=sparse))
    np.testing.assert_array_equal(body.rest(NEUTRAL)[1], synthetic_body.rest(NEUTRAL)[1])


def kintree(parents) -> np.ndarray:
    return np.array([[2**32 - 1, *parents[1:]], range(len(parents))], dtype=np.int64)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (kintree(PARENTS)[::-1], "every parent before its children"),
        (kintree((*PARENTS[:-1], 99)), "every parent before its children"),
        (kintree((-1, 3, *PARENTS[2:])), "every parent before its children"),
        (kintree((*PARENTS[:22], 12, 15, 15, *PARENTS[25:])), "not that of SMPL-X's 55 joints"),  # jaw on the neck
        (kintree((*PARENTS[:25], *PARENTS[40:], *PARENTS[25:40])), "every parent before its children"),  # hands swapped
        (kintree(PARENTS)[:1], r"kintree_table must have shape \(2, 55\)"),
        (kintree(PARENTS[:52]), r"kintree_table must have shape \(2, 55\), not \(2, 52\)"),
    ],
)
def test_another_kinematic_tree_is_refused(tmp_path, model_folder, table, message):
    with pytest.raises(BadFile, match=message) as caught:
        load_body(save_smplx(tmp_path, model_folder, kintree_table=table))
    assert "SMPLX_NEUTRAL_2020.npz" in str(caught.value)


@pytest.mark.parametrize(
    ("parents", "message"), [((-1, 0, 1, 1, 0), "root, neck, jaw, left eye, right eye"), ((-1, 0, 3, 1, 1), "parent")]
)
def test_another_tree_of_the_head_is_refused(tmp_path, model_folder, parents, message):
    arrays = {**model_folder[1]["flame"], "kintree_table": kintree(parents)}
    folder = spoiled(tmp_path, model_folder, "generic_model.pkl", synthetic.flame_pickle(arrays))
    with pytest.raises(BadFile, match=message) as caught:
        load_body(folder)
    assert "generic_model.pkl" in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda ids: np.where(ids == ids[0], ids[1], ids), r"different vertex ids in 0\.\.10474"),
        (lambda ids: np.where(ids == ids[0], 10475, ids), r"different vertex ids in 0\.\.10474"),
        (lambda ids: np.where(ids == ids[0], -1, ids), r"different vertex ids in 0\.\.10474"),
        (lambda ids: ids[:5000], r"must have shape \(5023\), not \(5000,\)"),
        (lambda ids: ids.astype("U5"), "must hold numbers"),
    ],
)
def test_a_scrambled_correspondence_is_refused_by_its_own_file(tmp_path, model_folder, spoil, message):
    folder = linked(model_folder[0], tmp_path / "m", leave_out="SMPL-X__FLAME_vertex_ids.npy")
    np.save(folder / "SMPL-X__FLAME_vertex_ids.npy", spoil(model_folder[1]["ids"]))
    with pytest.raises(BadFile, match=message) as caught:
        load_body(folder)
    assert str(folder / "SMPL-X__FLAME_vertex_ids.npy") in str(caught.value)


@pytest.mark.parametrize("neck", [np.arange(5000, 5024), np.zeros(3, int), np.array([-1, 2]), np.array([], int)])
def test_scrambled_masks_are_refused_by_their_own_file(tmp_path, model_folder, neck):
    masks = pickle.dumps({"neck": neck, "boundary": np.arange(5)})
    folder = spoiled(tmp_path, model_folder, "FLAME_masks.pkl", masks)
    with pytest.raises(BadFile, match=r"neck must hold different vertex ids in 0\.\.5022") as caught:
        load_body(folder)
    assert "FLAME_masks.pkl" in str(caught.value)


def test_masks_without_the_neck_are_refused(tmp_path, model_folder):
    folder = spoiled(tmp_path, model_folder, "FLAME_masks.pkl", pickle.dumps({"boundary": np.arange(5)}))
    with pytest.raises(BadFile, match="no mask 'neck'"):
        load_body(folder)


class _Bomb:
    def __reduce__(self):
        return print, ("code of a pickle ran",)


def test_a_pickle_that_names_code_is_refused_and_not_run(tmp_path, capsys):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"v_template": _Bomb()}))
    with pytest.raises(BadFile, match="print"):
        read_pickle(path)
    assert capsys.readouterr().out == ""


def test_pickles_of_either_numpy_and_of_any_protocol_are_read(tmp_path):
    path = tmp_path / "model.pkl"
    value = {"a": np.arange(6.0).reshape(2, 3), "n": np.float64(2), "s": scipy.sparse.coo_matrix(np.eye(3))}
    for protocol in (2, 4):
        data = pickle.dumps(value, protocol=protocol)
        for dump in (data, data.replace(b"numpy.core.multiarray", b"numpy._core.multiarray")):
            if protocol == 4 and dump is not data:
                continue  # lengths are part of protocol 4
            path.write_bytes(dump)
            read = read_pickle(path)
            np.testing.assert_array_equal(read["a"], value["a"])
            np.testing.assert_array_equal(read["s"], np.eye(3))


def test_nothing_licensed_is_left_behind(tmp_path, model_folder):
    before = sorted(p.name for p in model_folder[0].iterdir())
    load_body(model_folder[0])
    assert sorted(p.name for p in model_folder[0].iterdir()) == before
    shutil.rmtree(tmp_path)
