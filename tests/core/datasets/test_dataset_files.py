"""Finding a set's root, splits and names; walking over images; what importing costs."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest

from hsr_core.body.joints import JOINT_NAMES, LIMB_12
from hsr_core.datasets import DATASETS, ReferencePerson, Sample
from hsr_core.datasets.files import ImageSequence, as_numbers, need_folder, read_image, read_json
from hsr_core.datasets.joint_sets import H36M_17, J14, OPENPOSE_18, OPENPOSE_25, SMPL_24
from hsr_core.errors import BadFile, MissingFile, ShapeError
from hsr_core.types import Frame

WANTED = ("images", "labels/*.json")
LAYOUT = "the folder with images/ and labels/"


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "outer" / "set"
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    (root / "labels" / "a.json").write_text("{}")
    return root


def test_the_root_itself_is_taken(root):
    assert need_folder(root, WANTED, LAYOUT) == root


@pytest.mark.parametrize("up", [1, 2])
def test_a_root_that_lies_deeper_is_named(root, up):
    with pytest.raises(MissingFile, match=f"too high: .*{root}"):
        need_folder(root.parents[up - 1], WANTED, LAYOUT)


def test_a_root_that_lies_higher_is_named(root):
    with pytest.raises(MissingFile, match=f"too low: .*{root}"):
        need_folder(root / "images", WANTED, LAYOUT)


def test_only_what_is_missing_is_named(root):
    (root / "labels" / "a.json").unlink()
    with pytest.raises(MissingFile) as error:
        need_folder(root, WANTED, LAYOUT)
    assert "has no labels/*.json" in str(error.value)
    assert "no images" not in str(error.value)


def test_an_empty_folder_is_called_empty(tmp_path):
    with pytest.raises(MissingFile, match="is empty; wanted: the folder"):
        need_folder(tmp_path, WANTED, LAYOUT)


@pytest.mark.parametrize("name", ["~nobody-of-this-name/set", "x" * 300, "a\0b"])
def test_what_cannot_be_a_folder_is_none(name):
    with pytest.raises(MissingFile, match="no folder"):
        need_folder(name, WANTED, LAYOUT)


def test_a_file_is_no_folder(root):
    with pytest.raises(MissingFile, match="no folder"):
        need_folder(root / "labels" / "a.json", WANTED, LAYOUT)


@pytest.mark.parametrize(
    "value", ["text", {"a": 1}, [[1, 2], [3]], np.zeros((2, 2)), 5, [1, 2, 10**400], [1j, 1, 1], ["1", "2", "3"]]
)
def test_what_is_no_vector_is_refused(value, tmp_path):
    with pytest.raises(BadFile, match="speed must"):
        as_numbers(value, "speed", (3,), tmp_path / "a.pkl")


def test_json_without_end_to_its_depth_is_refused(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(BadFile, match=r"deep\.json is not JSON"):
        read_json(tmp_path / "deep.json", LAYOUT)


def test_a_png_of_too_many_pixels_is_no_image(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 200_000, 200_000, 8, 2, 0, 0, 0))
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    assert read_image(tmp_path / "huge.png") is None


def test_our_names_are_given_to_limbs_and_smpls_joints_only():
    """Names are what pairs joints: a neck regressed from the skin must never meet SMPL-X's neck."""
    limbs = {JOINT_NAMES[joint] for joint in LIMB_12}
    assert set(SMPL_24) - set(JOINT_NAMES) == {"left_hand", "right_hand"}
    for table in (J14, H36M_17, OPENPOSE_18, OPENPOSE_25):
        assert len(set(table)) == len(table)
        assert set(table) & set(JOINT_NAMES) <= limbs


def test_stamps_follow_the_number_of_the_frame_and_gaps_are_counted(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for i in (0, 3):
        cv2.imwrite(str(paths[i]), np.zeros((4, 6, 3), np.uint8))
    paths[1].write_bytes(b"no picture")
    sequence = ImageSequence("a", 25.0, paths, lambda i, image, ns: Sample(Frame(image, ns, index=i), ()))
    assert [sample.frame.stamp_ns for sample in sequence] == [0, 120_000_000]
    assert sequence.skipped == 2
    assert len(list(sequence)) == 2
    assert sequence.skipped == 2


def test_images_keep_the_orientation_that_the_camera_belongs_to(tmp_path):
    """A turned EXIF flag would swap the sides of a picture for which K is given as stored."""
    image = np.zeros((20, 30, 3), np.uint8)
    data = cv2.imencode(".jpg", image)[1].tobytes()
    exif = (
        b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00"
    )
    marker = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    path = tmp_path / "turned.jpg"
    path.write_bytes(data[:2] + marker + data[2:])
    assert cv2.imread(str(path)).shape == (30, 20, 3)
    assert read_image(path).shape == (20, 30, 3)


@pytest.mark.parametrize(
    "fields",
    [
        {"joints": np.zeros((3, 3)), "joint_names": ("a", "b")},
        {"joints": np.zeros((2, 2)), "joint_names": ("a", "b")},
        {"keypoints2d": np.zeros((2, 2)), "keypoint_names": ("a", "b")},
        {"keypoints2d": np.zeros((3, 3)), "joint_names": ("a", "b")},
        {"vertices": np.zeros((5, 2))},
        {"bbox_xyxy": np.zeros(3)},
    ],
)
def test_a_person_whose_arrays_do_not_fit_is_refused(fields):
    with pytest.raises(ShapeError, match="must have shape"):
        ReferencePerson(id=0, **fields)


def test_names_are_listed_without_loading_anything_heavy():
    code = (
        "import sys, hsr_core.datasets as d; print(*d.DATASETS)\n"
        "assert not {'torch', 'cv2', 'pyarrow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(DATASETS)
