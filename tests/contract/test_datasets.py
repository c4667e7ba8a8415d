"""What every data set owes those who evaluate on it; one generated folder a set."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import dataset_layouts
import numpy as np
import pytest

from hsr_core.datasets import DATASETS, Dataset, Sample, open_dataset
from hsr_core.errors import ConfigError, MissingFile
from hsr_core.types import Frame


@pytest.fixture(scope="module", params=DATASETS)
def made(request, tmp_path_factory) -> tuple[str, dataset_layouts.Made]:
    if request.param == "agora":
        pytest.importorskip("pyarrow", reason="pip install 'hsr-core[agora]'", exc_type=ImportError)
    root = tmp_path_factory.mktemp("sets") / request.param
    return request.param, dataset_layouts.make(request.param, root)


@pytest.fixture
def dataset(made, monkeypatch) -> Dataset:
    monkeypatch.delenv("HSR_BODY_MODELS", raising=False)
    return open_dataset(made[0], made[1].root)


def everything(sample: Sample) -> list[object]:
    """Return the numbers of a sample, to compare two of them."""
    person = [
        (p.id, p.valid, p.joint_names, p.keypoint_names, p.topology, p.joints, p.vertices, p.keypoints2d, p.bbox_xyxy)
        for p in sample.people
    ]
    return [sample.frame.image, sample.frame.stamp_ns, sample.frame.camera.K, sample.T_world_cam, sample.mask, person]


def assert_equal(a: object, b: object) -> None:
    if isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b


def test_every_set_has_a_generated_folder():
    assert set(dataset_layouts.MAKERS) == set(DATASETS)


def test_conventions_are_complete(dataset, made):
    conventions = dataset.conventions
    assert conventions.name == made[0]
    for entry in fields(conventions):
        value = getattr(conventions, entry.name)
        assert value or entry.name in ("fps", "world_up", "body_model", "gender"), entry.name
    assert conventions.unit in ("m", "m_by_body")
    assert conventions.camera_matrix in ("world_to_camera", "camera_to_world", "none")
    assert conventions.pixel_centre in ("integer", "half")
    assert dataset.split == conventions.splits[0]
    assert all(isinstance(note, str) for note in dataset.notes)


def test_frames_carry_a_camera_and_rising_stamps(dataset, made):
    sequence = dataset.open(made[1].sequence)
    samples = list(sequence)
    assert samples
    assert sequence.skipped == 0
    assert sequence.frame_count in (None, len(samples))
    assert sequence.fps > 0
    assert sequence.name == made[1].sequence in dataset.sequences()
    stamps = [sample.frame.stamp_ns for sample in samples]
    assert np.all(np.diff(stamps) > 0)
    if len(stamps) > 1:
        assert np.median(np.diff(stamps)) == pytest.approx(1e9 / sequence.fps, rel=1e-6)
    for sample in samples:
        assert isinstance(sample.frame, Frame)
        assert sample.frame.image.dtype == np.uint8
        assert sample.frame.camera.image_hw == sample.frame.image_hw
        if sample.mask is not None:
            assert sample.mask.shape == sample.frame.image_hw
        if sample.T_world_cam is not None:
            R = sample.T_world_cam[:3, :3]
            np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-6)
            assert np.linalg.det(R) == pytest.approx(1)


def test_there_are_people_with_ids_that_stay(dataset, made):
    ids = [tuple(p.id for p in sample.people) for sample in dataset.open(made[1].sequence)]
    assert all(ids)
    assert len(set(ids)) == 1
    assert len(set(ids[0])) == len(ids[0]) == made[1].joints.shape[1]


def test_a_person_is_known_by_something_that_can_be_scored(dataset, made):
    for sample in dataset.open(made[1].sequence):
        for person in sample.people:
            known = (person.joints, person.vertices, person.params, person.keypoints2d)
            assert any(value is not None for value in known)
            if person.joints is not None:
                assert len(person.joints) == len(person.joint_names)
            if person.vertices is not None:
                assert person.topology.partition(":")[0] in ("smpl", "smplx", "ehm")


def test_joints_lie_where_the_picture_shows_them(made, tmp_path, monkeypatch):
    """The reference through the frame's own camera hits the dots that the maker drew with its own arithmetic."""
    name, layout = made
    if name in ("synthetic", "ehf"):
        pytest.skip("no dots there: tests of the set itself look")
    models = tmp_path / "smpl"
    models.mkdir()
    for seed, gender in ((0, "MALE"), (1, "FEMALE"), (0, "NEUTRAL")):
        np.savez(models / f"SMPL_{gender}.npz", **dataset_layouts.smpl_arrays(seed))
    for i, sample in enumerate(open_dataset(name, layout.root, body_models=models).open(layout.sequence)):
        for p, person in enumerate(sample.people):
            joints = person.joints[: layout.joints.shape[2]]
            np.testing.assert_allclose(joints, layout.joints[i, p], atol=2e-5)
            uv = np.rint(dataset_layouts.pixels(joints, sample.frame.camera.K)).astype(int)
            inside = ((uv >= 0) & (uv < sample.frame.image.shape[1::-1])).all(axis=1)
            assert inside.mean() > 0.8
            dots = sample.frame.image[uv[inside, 1], uv[inside, 0]].astype(int)
            assert (dots > 180).all()


def test_a_second_iteration_and_a_second_opening_give_the_same(dataset, made):
    sequence = dataset.open(made[1].sequence)
    first = [everything(sample) for sample in sequence]
    assert_equal([everything(sample) for sample in sequence], first)
    again = open_dataset(made[0], made[1].root).open(made[1].sequence)
    assert_equal([everything(sample) for sample in again], first)


def test_closing_ends_the_iteration(dataset, made):
    sequence = dataset.open(made[1].sequence)
    samples = iter(sequence)
    next(samples)
    sequence.close()
    assert list(samples) == []
    assert list(sequence) == []
    sequence.close()


def test_a_missing_folder_says_what_belongs_there(made, tmp_path):
    with pytest.raises(MissingFile, match=r"no folder .*; wanted: .*folder"):
        open_dataset(made[0], tmp_path / "nothing")


def test_an_empty_folder_says_what_belongs_there(made, tmp_path):
    with pytest.raises(MissingFile, match=r"wanted: .*folder"):
        open_dataset(made[0], tmp_path)


def test_an_unknown_split_or_sequence_lists_those_that_exist(dataset, made):
    with pytest.raises(ConfigError, match=dataset.conventions.splits[0]):
        open_dataset(made[0], made[1].root, split="holiday")
    with pytest.raises(ConfigError, match=made[1].sequence):
        dataset.open("holiday")


def test_an_unknown_set_lists_those_that_exist(tmp_path: Path):
    with pytest.raises(ConfigError, match="3dpw"):
        open_dataset("4dpw", tmp_path)


def test_a_folder_one_level_too_high_names_the_right_one(made):
    if made[0] == "synthetic":
        pytest.skip("a folder of scenes is one of its layouts")
    if made[0] == "agora":
        pytest.skip("its files are found at any depth")
    with pytest.raises(MissingFile, match=f"too high: .*{made[1].root.name}"):
        open_dataset(made[0], made[1].root.parent)
