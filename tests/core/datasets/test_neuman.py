"""NeuMan: COLMAP's cameras, splits, masks, and HUGS's fits in units of the body."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest
from dataset_layouts import HW, K, make_neuman, make_neuman_own, smpl_arrays, to_camera

from hsr_core.datasets import open_dataset
from hsr_core.datasets.colmap import read_model
from hsr_core.errors import BadFile, MissingFile


@pytest.fixture(autouse=True)
def no_models(monkeypatch):
    monkeypatch.delenv("HSR_BODY_MODELS", raising=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_neuman(tmp_path_factory.mktemp("sets") / "neuman")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    np.savez(folder / "SMPL_NEUTRAL.npz", **smpl_arrays(0))
    return folder


def test_the_body_has_its_own_size_in_a_world_of_that_scale(made, models):
    samples = list(open_dataset("neuman", made.root, body_models=models).open("lab"))
    for i, sample in enumerate(samples):
        np.testing.assert_allclose(sample.people[0].joints, made.joints[i, 0], atol=2e-5)
        np.testing.assert_allclose(sample.T_world_cam @ made.T_cam_world[i], np.eye(4), atol=1e-9)
    roots = [to_camera(sample.people[0].joints[0], sample.T_world_cam) for sample in samples]
    np.testing.assert_allclose(np.diff(roots, axis=0), np.broadcast_to([0.02, 0, 0.01], (3, 3)), atol=5e-5)


def test_pixel_centres_are_moved_to_integers(made):
    np.testing.assert_allclose(next(iter(open_dataset("neuman", made.root).open("lab"))).frame.camera.K, K)


def test_splits_are_the_sets_own_files_and_keep_their_times(made):
    for split, frames in (("all", [0, 1, 2, 3]), ("train", [0, 1]), ("val", [2]), ("test", [3])):
        sequence = open_dataset("neuman", made.root, split=split).open("lab")
        assert sequence.frame_count == len(frames)
        assert [round(sample.frame.stamp_ns / 1e8) for sample in sequence] == frames


def test_masks_are_of_the_person_in_both_layouts(made, tmp_path):
    sample = next(iter(open_dataset("neuman", made.root).open("lab")))
    assert sample.mask[50, 80] == 1
    assert sample.mask[5, 5] == 0
    np.testing.assert_array_equal(sample.people[0].bbox_xyxy, [60, 20, 110, 100])
    hugs = make_neuman(tmp_path / "neuman")
    folder = hugs.root / "lab"
    (folder / "4d_humans" / "sam_segmentations").mkdir()
    for i, path in enumerate(sorted((folder / "segmentations").iterdir())):
        mask = 255 - cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(folder / "4d_humans" / "sam_segmentations" / f"mask_{i:04d}.png"), mask)
        path.unlink()
    np.testing.assert_array_equal(next(iter(open_dataset("neuman", hugs.root).open("lab"))).mask, sample.mask)


def test_without_smpl_there_are_rotations_only(made):
    dataset = open_dataset("neuman", made.root)
    person = next(iter(dataset.open("lab"))).people[0]
    assert "rotations only" in dataset.notes[0]
    assert person.joints is None
    assert np.isfinite(person.params.global_orient).all()


def test_without_fits_there_are_images_and_masks(tmp_path):
    made = make_neuman(tmp_path / "neuman")
    (made.root / "lab" / "4d_humans" / "smpl_optimized_aligned_scale.npz").unlink()
    dataset = open_dataset("neuman", made.root)
    sample = next(iter(dataset.open("lab")))
    assert "no people" in dataset.notes[0]
    assert sample.people == ()
    assert sample.mask is not None


def test_a_missing_split_file_is_named(tmp_path):
    made = make_neuman(tmp_path / "neuman")
    (made.root / "lab" / "val_split.txt").unlink()
    with pytest.raises(MissingFile, match="val_split"):
        open_dataset("neuman", made.root, split="val").open("lab")


def test_a_split_of_other_images_is_refused(tmp_path):
    made = make_neuman(tmp_path / "neuman")
    (made.root / "lab" / "val_split.txt").write_text("99999.png\n")
    with pytest.raises(BadFile, match="99999"):
        open_dataset("neuman", made.root, split="val").open("lab")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("transl", np.zeros((3, 3)), "transl must have shape"),
        ("scale", np.zeros(4), "scale must be positive"),
        ("body_pose", None, "no 'body_pose'"),
    ],
)
def test_fits_that_do_not_belong_to_the_images_are_refused(tmp_path, name, value, message):
    made = make_neuman(tmp_path / "neuman")
    path = made.root / "lab" / "4d_humans" / "smpl_optimized_aligned_scale.npz"
    data = dict(np.load(path)) | {name: value}
    np.savez(path, **{key: item for key, item in data.items() if item is not None})
    with pytest.raises(BadFile, match=message):
        open_dataset("neuman", made.root).open("lab")


def test_torn_fits_are_named(tmp_path):
    made = make_neuman(tmp_path / "neuman")
    path = made.root / "lab" / "4d_humans" / "smpl_optimized_aligned_scale.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BadFile, match="smpl_optimized"):
        open_dataset("neuman", made.root).open("lab")


def test_a_mask_of_another_size_is_refused(tmp_path):
    made = make_neuman(tmp_path / "neuman")
    cv2.imwrite(str(made.root / "lab" / "segmentations" / "00000.png"), np.zeros((10, 10), np.uint8))
    with pytest.raises(BadFile, match=r"00000\.png must be a mask"):
        list(open_dataset("neuman", made.root).open("lab"))


def test_one_sequence_is_a_level_too_low(made):
    with pytest.raises(MissingFile, match="too low"):
        open_dataset("neuman", made.root / "lab")


@pytest.mark.parametrize(
    ("line", "focal", "dist"),
    [
        ("SIMPLE_PINHOLE 160 120 150 80 60", (150, 150), [0, 0, 0, 0, 0]),
        ("SIMPLE_RADIAL 160 120 150 80 60 -0.1", (150, 150), [-0.1, 0, 0, 0, 0]),
        ("RADIAL 160 120 150 80 60 -0.1 0.02", (150, 150), [-0.1, 0.02, 0, 0, 0]),
        ("OPENCV 160 120 150 151 80 60 -0.1 0.02 0.003 0.004", (150, 151), [-0.1, 0.02, 0.003, 0.004, 0]),
    ],
)
def test_colmaps_camera_models(made, tmp_path, line, focal, dist):
    (tmp_path / "cameras.txt").write_text(f"# comment\n1 {line}\n")
    (tmp_path / "images.txt").write_text((made.root / "lab" / "sparse" / "images.txt").read_text())
    images = read_model(tmp_path)
    assert [image.name for image in images] == [f"{i:05d}.png" for i in range(4)]
    np.testing.assert_array_equal(images[0].K, [[focal[0], 0, 79.5], [0, focal[1], 59.5], [0, 0, 1]])
    np.testing.assert_array_equal(images[0].dist, dist)
    assert images[0].image_hw == HW


@pytest.mark.parametrize(
    ("cameras", "images", "message"),
    [
        ("1 FISHEYE 160 120 150 80 60", None, "FISHEYE is not among"),
        ("1 PINHOLE 160 120 150 80 60", None, "4 parameters"),
        ("2 PINHOLE 160 120 150 150 80 60", None, "which cameras.txt lacks"),
        (None, "1 0.1 0.2\n\n", "cannot be read"),
    ],
)
def test_models_that_cannot_be_read_are_named(made, tmp_path, cameras, images, message):
    for name, content in (("cameras.txt", cameras), ("images.txt", images)):
        original = (made.root / "lab" / "sparse" / name).read_text()
        (tmp_path / name).write_text(original if content is None else f"{content}\n")
    with pytest.raises(BadFile, match=message):
        read_model(tmp_path)


def test_neumans_own_fits_are_similarities(tmp_path, models):
    made = make_neuman_own(tmp_path / "neuman")
    dataset = open_dataset("neuman", made.root, body_models=models)
    assert dataset.notes == ()
    for i, sample in enumerate(dataset.open(made.sequence)):
        person = sample.people[0]
        np.testing.assert_allclose(person.joints, made.joints[i, 0], atol=2e-5)
        uv = np.rint(person.keypoints2d[:, :2]).astype(int)
        inside = ((uv >= 0) & (uv < (HW[1], HW[0]))).all(axis=1)
        assert inside.sum() > 15
        assert (sample.frame.image[uv[inside, 1], uv[inside, 0]] > 180).all()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("smpl_output_optimized.pkl", {}, "must hold one person"),
        ("smpl_output_optimized.pkl", {1: {"pose": np.zeros((2, 72)), "betas": np.zeros((2, 10))}}, "has 2 poses"),
        ("alignments.npy", {"00000.png": np.eye(4)}, r"00000\.png must have shape \(4, 3\)"),
        ("alignments.npy", {f"{i:05d}.png": np.zeros((4, 3)) for i in range(3)}, "must hold similarities"),
        ("alignments.npy", [1, 2], "must hold a dictionary"),
    ],
)
def test_own_fits_that_do_not_fit_are_named(tmp_path, name, content, message):
    made = make_neuman_own(tmp_path / "neuman")
    path = made.root / made.sequence / name
    if path.suffix == ".npy":
        box = np.empty((), object)
        box[()] = content
        np.save(path, box)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(BadFile, match=message):
        open_dataset("neuman", made.root).open(made.sequence)


def test_own_fits_need_images_with_numbers(tmp_path):
    made = make_neuman_own(tmp_path / "neuman")
    listed = made.root / made.sequence / "sparse" / "images.txt"
    listed.write_text(listed.read_text().replace("00000.png", "first.png"))
    with pytest.raises(BadFile, match="without a number"):
        open_dataset("neuman", made.root).open(made.sequence)


def test_a_split_file_that_is_no_text_is_refused(tmp_path):
    made = make_neuman(tmp_path / "neuman")
    (made.root / made.sequence / "test_split.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadFile, match=r"which sparse/images\.txt lacks"):
        open_dataset("neuman", made.root, split="test").open(made.sequence)
