"""AGORA: tables of several people, occlusion, resolutions, and what cannot be read."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from dataset_layouts import make_agora

from hsr_core.datasets import open_dataset
from hsr_core.datasets.agora import focal_mm
from hsr_core.errors import BadFile, MissingFile, MissingPackage
from hsr_core.geometry.camera import project

pa = pytest.importorskip("pyarrow", reason="pip install 'hsr-core[agora]'", exc_type=ImportError)
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_agora(tmp_path_factory.mktemp("sets") / "AGORA")


def read(made):
    return list(open_dataset("agora", made.root).open(made.sequence))


def changed(tmp_path, change, **options):
    made = make_agora(tmp_path / "AGORA", **options)
    path = made.root / f"{made.sequence}.parquet"
    columns = pq.read_table(path).to_pydict()
    change(columns)
    pq.write_table(pa.table(columns), path)
    return made


def test_people_hidden_by_more_than_90_percent_are_not_scored(made):
    assert [[p.valid for p in sample.people] for sample in read(made)] == [[True, False], [True, True]]


def test_joints_and_vertices_are_smplxs_in_the_camera_frame(made):
    for i, sample in enumerate(read(made)):
        for p, person in enumerate(sample.people):
            assert person.topology == "smplx"
            assert person.vertices.shape == (10475, 3)
            assert (len(person.joint_names), person.joint_names[20]) == (55, "left_wrist")
            np.testing.assert_allclose(person.joints[:24], made.joints[i, p], atol=1e-9)


def test_the_camera_agrees_with_the_shipped_projection(made):
    """Whatever the image's size: pixels of 3840x2160 count from the corner, ours from the first pixel's centre."""
    for sample in read(made):
        for person in sample.people:
            np.testing.assert_allclose(
                project(person.joints, sample.frame.camera), person.keypoints2d[:, :2], atol=1e-6
            )


@pytest.mark.parametrize(("vertices", "topology", "joints"), [(6890, "smpl", 24), (None, "", 55)])
def test_tables_of_smpl_and_tables_without_vertices(tmp_path, vertices, topology, joints):
    person = read(make_agora(tmp_path / "AGORA", vertices=vertices))[0].people[0]
    assert person.topology == topology
    assert (person.vertices is None) == (vertices is None)
    assert len(person.joint_names) == len(person.joints) == joints


def test_nested_lists_read_as_flat_ones(tmp_path):
    flat, nested = (read(make_agora(tmp_path / str(n), vertices=6890, nested=n)) for n in (False, True))
    for a, b in zip(flat, nested, strict=True):
        for p, q in zip(a.people, b.people, strict=True):
            np.testing.assert_array_equal(p.joints, q.joints)
            np.testing.assert_array_equal(p.vertices, q.vertices)


def test_is_valid_counts_where_it_is_there(tmp_path):
    made = changed(tmp_path, lambda c: c.update(isValid=[[False, True]] * 2), vertices=6890)
    assert [[p.valid for p in s.people] for s in read(made)] == [[False, False], [False, True]]


def test_nan_joints_are_not_scored(tmp_path):
    def change(columns):
        columns["gt_joints_3d"][0][0] = [float("nan")] * len(columns["gt_joints_3d"][0][0])

    assert not read(changed(tmp_path, change, vertices=6890))[0].people[0].valid


@pytest.mark.parametrize("column", ["imgPath", "occlusion", "gt_joints_2d", "gt_joints_3d"])
def test_a_missing_column_is_named(tmp_path, column):
    made = changed(tmp_path, lambda columns: columns.pop(column), vertices=6890)
    with pytest.raises(BadFile, match=column):
        read(made)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["gt_joints_3d"][0].__setitem__(0, [0.0, 1.0]), "gt_joints_3d must hold one array"),
        (lambda c: c["gt_joints_2d"][0].pop(), "gt_joints_2d must hold one array"),
        (lambda c: c.update(gt_verts=[[[0.0] * 30] * 2] * 2), "10 vertices"),
        (lambda c: c.update(gt_joints_2d=[[[0.0] * 40] * 2] * 2), "20 joints in 2D"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, change, message):
    with pytest.raises(BadFile, match=message):
        read(changed(tmp_path, change, vertices=6890))


def test_a_torn_table_is_named(tmp_path):
    made = make_agora(tmp_path / "AGORA", vertices=6890)
    path = made.root / f"{made.sequence}.parquet"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(BadFile, match="convert it again"):
        read(made)


def test_images_that_are_missing_are_counted(tmp_path):
    made = make_agora(tmp_path / "AGORA", vertices=6890)
    next(iter(made.root.rglob("*00000_1280x720.png"))).unlink()
    sequence = open_dataset("agora", made.root).open(made.sequence)
    assert [sample.frame.index for sample in sequence] == [1]
    assert sequence.skipped == 1


def test_pickles_are_not_read_and_the_way_out_is_said(tmp_path):
    (tmp_path / "SMPLX").mkdir()
    (tmp_path / "SMPLX" / "validation_0_withjv.pkl").write_bytes(b"never opened")
    with pytest.raises(MissingFile, match="convert them"):
        open_dataset("agora", tmp_path)


def test_without_pyarrow_the_extra_is_named(made, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingPackage, match=r"hsr-core\[agora\]"):
        open_dataset("agora", made.root).open(made.sequence)


def test_focal_lengths_go_by_the_image_name():
    assert focal_mm("ag_validationset_renderpeople_hdri_50mm_5_10_00001.png") == 50
    assert focal_mm("ag_validationset_3dpeople_archviz_5_10_cam02_00000.png") == 18
    assert focal_mm("ag_validationset_renderpeople_bfh_brushifyforest_5_15_00000.png") == 28


def test_folders_that_are_links_are_looked_into_and_rings_end(tmp_path):
    made = make_agora(tmp_path / "disk" / "AGORA")
    root = tmp_path / "set"
    root.mkdir()
    (root / "link").symlink_to(made.root, target_is_directory=True)
    (made.root / "ring").symlink_to(root, target_is_directory=True)
    dataset = open_dataset("agora", root)
    assert dataset.sequences() == (f"link/{made.sequence}",)
    assert len(list(dataset.open(dataset.sequences()[0]))) == len(read(made))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("occlusion", None, "occlusion must"),
        ("isValid", [[True]], "isValid must have shape"),
        ("imgPath", "cut", "torn"),
    ],
)
def test_cells_that_do_not_fit_are_named(tmp_path, column, value, message):
    def change(columns):
        columns[column] = [value] * len(columns["imgPath"])

    made = changed(tmp_path, change)
    if value == "cut":  # text that is no UTF-8
        path = made.root / f"{made.sequence}.parquet"
        table = pq.read_table(path)
        names = pa.array([b"\xff\xfe"] * table.num_rows, pa.binary()).view(pa.string())
        pq.write_table(table.set_column(table.schema.get_field_index("imgPath"), "imgPath", names), path)
    with pytest.raises(BadFile, match=message):
        read(made)
