"""No name that comes in a request leads out of the data folder."""

from __future__ import annotations

import os

import pytest
from hsr import params
from hsr.data_folder import NAME_BYTES_MAX, place_in
from hsr.refine_params import DEFAULTS as REFINER_DEFAULTS
from hsr.refine_services import avatar_path
from hsr.snapshot import save_snapshot, snapshot_folder
from hypothesis import given
from hypothesis import strategies as st

from hsr_core.config import describe
from hsr_core.errors import ConfigError

BAD_NAMES = (
    "..", ".", "../out", "a/../../out", "/etc/passwd", "//x", "a/b", "a\\b", "a/", "\0", "a\0b", "a\nb", "a\x1b[2J",
    ".hidden", "~/x", "é" * (NAME_BYTES_MAX // 2 + 1), "x" * 10_000, "\u202egnp",
)  # fmt: skip
MAKERS = {
    "snapshot": lambda data, name: snapshot_folder(str(data), name, 7),
    "avatar": lambda data, name: avatar_path(str(data), name),
}


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_is_not_a_plain_one_is_refused(tmp_path, make, name):
    with pytest.raises(ConfigError):
        make(tmp_path, name)


@given(name=st.text(max_size=30) | st.text(alphabet="./\\~a\0", max_size=12))
def test_whatever_the_name_the_path_stays_inside(tmp_path_factory, name):
    data = tmp_path_factory.getbasetemp() / "data"
    for make in MAKERS.values():
        try:
            path = make(data, name)
        except ConfigError:
            continue
        assert os.path.realpath(path).startswith(os.path.realpath(data) + os.sep)
        assert path.parent.parent == data.resolve()


@pytest.mark.parametrize(("folder", "name"), [("snapshots", "one"), ("avatars", "one.npz")])
def test_a_link_that_leads_out_is_refused_whether_or_not_it_ends_somewhere(tmp_path, folder, name):
    outside, data = tmp_path / "outside", tmp_path / "data"
    (data / folder).mkdir(parents=True)
    make = MAKERS[folder[:-1]]
    (data / folder / name).symlink_to(outside)
    with pytest.raises(ConfigError, match="link"):
        make(data, "one")
    outside.mkdir()
    with pytest.raises(ConfigError, match="link"):
        make(data, "one")


def test_a_snapshot_does_not_write_into_a_folder_that_is_there(tmp_path):
    """In it a file may be a link to anywhere."""
    (tmp_path / "snapshots" / "one").mkdir(parents=True)
    with pytest.raises(ConfigError, match="already"):
        snapshot_folder(str(tmp_path), "one", 7)
    with pytest.raises(FileExistsError):  # made in between
        save_snapshot(tmp_path / "snapshots" / "one", None, None, {}, None)


def test_a_data_folder_on_another_disk_may_be_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    assert place_in(str(tmp_path / "data"), "avatars", "a.npz") == tmp_path / "disk" / "avatars" / "a.npz"


@pytest.mark.parametrize("settings", [params.DEFAULTS, REFINER_DEFAULTS], ids=["perception", "refiner"])
def test_no_request_changes_where_files_lie(settings):
    """rclpy refuses to set what is read-only."""
    specs = {spec.name: spec for spec in describe(settings)}
    assert params.descriptor(specs["data_dir"]).read_only
    assert params.descriptor(specs["body_model.path"]).read_only


def test_a_name_may_have_the_ending_or_not(tmp_path):
    assert avatar_path(str(tmp_path), "anna") == avatar_path(str(tmp_path), "anna.npz")
    assert snapshot_folder(str(tmp_path), "", 123).name == "123"
