"""Frames of refinement: what they refuse, and the folder there and back."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from hsr_core.errors import BadFile, ConfigError, InvalidIntrinsics, MissingFile, ShapeError
from hsr_core.refine.frames import PARAMETERS, RefineFrame, read_folder, write_folder
from hsr_core.types import HumanParams

HW = (12, 20)
K = np.array([[30.0, 0, 9.5], [0, 30.0, 5.5], [0, 0, 1]])


def params(rng) -> HumanParams:
    zero = HumanParams()
    return HumanParams(**{n: rng.normal(0, 1, np.shape(getattr(zero, n))).astype(np.float32) for n in PARAMETERS})


def frames(count: int = 3, **changes) -> list[RefineFrame]:
    rng = np.random.default_rng(0)
    return [
        RefineFrame(
            image=rng.random((*HW, 3), np.float32),
            mask=rng.random(HW, np.float32),
            depth_m=rng.uniform(0, 70, HW).astype(np.float32),
            K=K,
            params=params(rng),
            stamp_ns=10**18 + 33_333_333 * t,  # beyond what a float holds exactly
            ignore=rng.random(HW) > 0.5,
            truth=params(rng),
        )
        for t in range(count)
    ]


def without(items: list[RefineFrame], **changes) -> list[RefineFrame]:
    return [replace(item, **changes) for item in items]


def same_params(a: HumanParams, b: HumanParams) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in PARAMETERS)


@pytest.fixture
def folder(tmp_path):
    write_folder(tmp_path / "clip", frames(), body_model="open-1")
    return tmp_path / "clip"


def test_a_folder_gives_back_what_was_written(folder):
    """Images and masks to half of 1/255, depth to half a millimetre, parameters and stamps to the bit."""
    back = read_folder(folder, body_model="open-1")
    assert (len(back), back.body_model, back.image_hw) == (3, "open-1", HW)
    assert back.has_depth
    assert back.has_ignore
    assert back.has_truth
    for old, new in zip(frames(), back, strict=True):
        np.testing.assert_allclose(new.image, old.image, atol=0.5 / 255 + 1e-6)
        np.testing.assert_allclose(new.mask, old.mask, atol=0.5 / 255 + 1e-6)
        holds = old.depth_m < 65.535  # 16 bits of millimetres; beyond is invalid, not wrapped
        np.testing.assert_allclose(new.depth_m[holds], old.depth_m[holds], atol=0.5e-3 + 1e-5)
        assert np.all(new.depth_m[~holds & (old.depth_m > 65.536)] == 0)
        assert np.array_equal(new.ignore, old.ignore)
        assert np.array_equal(new.K, K)
        assert new.stamp_ns == old.stamp_ns
        assert same_params(new.params, old.params)
        assert same_params(new.truth, old.truth)


def test_reading_and_writing_again_changes_nothing(folder, tmp_path):
    write_folder(tmp_path / "again", read_folder(folder), body_model="open-1")
    names = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    assert len(names) == 3 + 4 * 3
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name


def test_colours_keep_their_order_for_others(folder):
    red, _, blue = np.moveaxis(frames()[1].image, -1, 0)
    bgr = cv2.imread(str(folder / "images" / "000001.png")) / 255
    np.testing.assert_allclose(bgr[..., 0], blue, atol=0.01)
    np.testing.assert_allclose(bgr[..., 2], red, atol=0.01)


def test_depth_ignore_and_truth_are_optional(tmp_path):
    write_folder(tmp_path / "bare", without(frames(), depth_m=None, ignore=None, truth=None))
    frame = read_folder(tmp_path / "bare")[-1]
    assert frame.depth_m is None
    assert frame.ignore is None
    assert frame.truth is None


def test_slices_and_negative_indices_work(folder):
    back = read_folder(folder)
    assert [f.stamp_ns for f in back[1:]] == [f.stamp_ns for f in frames()[1:]]
    assert back[-1].stamp_ns == frames()[2].stamp_ns
    with pytest.raises(IndexError):
        back[3]


def test_a_frame_refuses_what_does_not_fit():
    frame = frames(1)[0]
    with pytest.raises(ShapeError, match=r"mask .*\(12, 20\).*\(11, 20\)"):
        replace(frame, mask=frame.mask[1:])
    with pytest.raises(ShapeError, match="image must have shape"):
        replace(frame, image=frame.mask)
    with pytest.raises(InvalidIntrinsics):
        replace(frame, K=np.zeros((3, 3)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: replace(f, depth_m=None), "depth_m must be in all frames or in none; frame 1"),
        (lambda f: replace(f, truth=None), "truth must be in all frames or in none"),
        (lambda f: replace(f, K=K + np.diag([1, 1, 0])), "another size or camera"),
        (lambda f: replace(f, stamp_ns=0), "stamps must rise"),
        (lambda f: replace(f, depth_m=np.full(HW, np.nan)), "not finite; invalid depth is 0"),
        (lambda f: replace(f, params=replace(f.params, transl=np.full(3, np.nan))), "params of frame 1"),
    ],
)
def test_writing_refuses_frames_that_differ(tmp_path, change, message):
    first, second = frames(2)
    with pytest.raises(ShapeError, match=message):
        write_folder(tmp_path / "clip", [first, change(second)])
    with pytest.raises(MissingFile):  # what is there of it is not taken for a clip
        read_folder(tmp_path / "clip")


def test_writing_refuses_no_frames_and_a_folder_in_use(tmp_path, folder):
    with pytest.raises(ShapeError, match="at least one frame"):
        write_folder(tmp_path / "none", [])
    with pytest.raises(ConfigError, match=r"holds frames.json, .* already"):
        write_folder(folder, frames())


def test_coefficients_of_another_length_are_refused(tmp_path):
    first, second = frames(2)
    second = replace(second, params=replace(second.params, betas=np.zeros(3, np.float32)))
    with pytest.raises(ShapeError, match="betas must have one length"):
        write_folder(tmp_path / "clip", [first, second])


def test_a_missing_folder_names_the_command(tmp_path):
    with pytest.raises(MissingFile, match="hsr synth"):
        read_folder(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["images", "masks", "depth", "ignore"])
def test_a_torn_image_is_told_by_its_path(folder, name):
    path = folder / name / "000001.png"
    path.write_bytes(path.read_bytes()[:-20])
    back = read_folder(folder)
    assert back[0].stamp_ns
    with pytest.raises(BadFile, match=f"{name}/000001.png is no whole PNG"):
        back[1]


def test_a_missing_image_is_told_at_once(folder):
    (folder / "masks" / "000002.png").unlink()
    with pytest.raises(MissingFile, match=r"1 of 3 images missing, first 000002\.png"):
        read_folder(folder)


def test_images_of_another_size_or_kind_are_refused(folder):
    cv2.imwrite(str(folder / "depth" / "000000.png"), np.zeros(HW, np.uint8))
    cv2.imwrite(str(folder / "images" / "000001.png"), np.zeros((5, 5, 3), np.uint8))
    back = read_folder(folder)
    with pytest.raises(BadFile, match="must hold uint16"):
        back[0]
    with pytest.raises(BadFile, match=r"must hold uint8 \(12, 20, 3\), not uint8 \(5, 5, 3\)"):
        back[1]


def test_parameters_are_checked(folder):
    path = folder / "params.npz"
    whole = path.read_bytes()
    arrays = dict(np.load(path))
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadFile, match="does not hold parameters"):
        read_folder(folder)
    np.savez(path, **{k: v for k, v in arrays.items() if k != "betas"})
    with pytest.raises(BadFile, match="betas"):
        read_folder(folder)
    np.savez(path, **{k: v[:2] for k, v in arrays.items()})
    with pytest.raises(BadFile, match="first axis must be the 3 frames"):
        read_folder(folder)
    np.savez(path, **(arrays | {"transl": arrays["transl"] * np.nan}))
    with pytest.raises(BadFile, match="transl has values that are not finite"):
        read_folder(folder)
    np.savez(path, **(arrays | {"transl": arrays["transl"][:, :2]}))
    with pytest.raises(BadFile, match=r"transl must have shape \(3,\)"):
        read_folder(folder)
    np.savez(path, **(arrays | {"transl": np.array([{}] * 3, object)}))  # a pickle
    with pytest.raises(BadFile, match="does not hold parameters"):
        read_folder(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "hsr-people/1"}, "this version reads"),
        ({"stamp_ns": []}, "at least one"),
        ({"stamp_ns": [3, 2, 1]}, "rising"),
        ({"K": [[1, 0, 0]]}, "K must have shape"),
        ({"K": "wide"}, "frames.json"),
        ({"image_hw": None}, "frames.json"),
    ],
)
def test_a_header_is_checked(folder, change, message):
    path = folder / "frames.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BadFile, match=message):
        read_folder(folder)


def test_a_header_that_is_no_json_is_refused(folder):
    (folder / "frames.json").write_text('{"format": ')
    with pytest.raises(BadFile, match="is not JSON"):
        read_folder(folder)


def test_another_body_model_is_refused(folder):
    with pytest.raises(BadFile, match=r"open-1, this one is ehms-2"):
        read_folder(folder, body_model="ehms-2")
