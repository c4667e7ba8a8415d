"""Files: what is taken, what is refused and why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from hsr_core.errors import BadFile, MissingFile
from hsr_core.regress.pear.checkpoint import check, load_network, make_test, network_hash
from hsr_core.regress.pear.network import SIZES


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("pear") / "tiny.pt"
    make_test(out, "tiny")
    return out


@pytest.fixture
def changed(path, tmp_path):
    """Write the file again after a change of its content."""

    def write(change) -> Path:
        content = torch.load(path, weights_only=True)
        change(content)
        out = tmp_path / "changed.pt"
        torch.save(content, out)
        return out

    return write


def test_a_file_gives_its_sizes_and_its_values(path):
    network = load_network(path)
    assert network.size == SIZES["tiny"]
    assert not any(parameter.requires_grad for parameter in network.parameters())
    content = torch.load(path, weights_only=True)
    for part in ("backbone", "head"):
        for key, value in getattr(network, part).state_dict().items():
            assert torch.equal(value, content[part][key])


def test_equal_seeds_are_equal_files_and_hashes_tell_networks_apart(path, tmp_path):
    make_test(tmp_path / "again.pt", "tiny")
    make_test(tmp_path / "other.pt", "tiny", seed=1)
    hashes = [network_hash(load_network(p)) for p in (path, tmp_path / "again.pt", tmp_path / "other.pt")]
    assert hashes[0] == hashes[1] != hashes[2]


def test_half_precision_files_load_as_float32(changed):
    def halve(content):
        for part in ("backbone", "head"):
            content[part] = {key: value.half() for key, value in content[part].items()}

    assert next(load_network(changed(halve)).parameters()).dtype == torch.float32


def test_what_the_forward_pass_never_reads_may_be_missing(changed):
    def drop(content):
        for key in list(content["head"]):
            if key.startswith(("smplx_joint_decoder", "init_betas", "init_cam", "init_expression")):
                del content["head"][key]

    load_network(changed(drop))


def test_more_top_level_entries_are_ignored(changed):
    load_network(changed(lambda content: content.update(meta_cfg={"MODEL": {"depth": 2}}, optimizer={"state": {}})))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["backbone"].pop("blocks.1.mlp.fc1.bias"), "backbone.blocks.1.mlp.fc1.bias missing"),
        (lambda c: c["head"].pop("init_body_pose"), "head.init_body_pose missing"),
        (lambda c: c["backbone"].pop("pos_embed"), "backbone.pos_embed"),
        (lambda c: c["head"].update(more=torch.zeros(1)), "unknown head.more"),
        (lambda c: c["head"].update({"cam_decoder.bias": torch.zeros(4)}), r"cam_decoder.bias is \(4,\), expected"),
        (lambda c: c["backbone"]["last_norm.bias"].fill_(float("nan")), "last_norm.bias holds NaN"),
        (lambda c: c["backbone"].update(pos_embed=torch.zeros(1, 197, 64)), "another input size"),
        (lambda c: c["backbone"].update(pos_embed="text"), "not a tensor"),
        (lambda c: c.pop("head"), "no state dicts"),
    ],
)  # fmt: skip
def test_another_file_is_refused_by_what_is_wrong(changed, change, message):
    with pytest.raises(BadFile, match=message):
        load_network(changed(change))


def test_unknown_keys_can_be_allowed(changed):
    load_network(changed(lambda c: c["head"].update(more=torch.zeros(1))), allow_extra=True)


def test_heads_that_do_not_divide_the_width_are_refused(path):
    with pytest.raises(BadFile, match=r"pear\.heads"):
        load_network(path, heads=7)


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.999])
def test_a_truncated_file_is_refused(path, tmp_path, keep):
    data = path.read_bytes()
    cut = tmp_path / "cut.pt"
    cut.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    with pytest.raises(BadFile, match="download it again"):
        load_network(cut)


def test_a_missing_file_is_named_with_where_it_comes_from(tmp_path):
    with pytest.raises(MissingFile, match="BestWJH/PEAR_models"):
        load_network(tmp_path / "none.pt")


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_file_is_never_run(changed, tmp_path):
    proof = tmp_path / "was_here"
    bad = changed(lambda content: content.update(meta_cfg=Payload(proof)))
    with pytest.raises(BadFile, match="more than tensors"):
        load_network(bad)
    assert not proof.exists()
    torch.load(bad, weights_only=False)  # it would have
    assert proof.exists()


def test_check_reports_what_is_in_a_file(path, changed):
    facts = check(path)
    assert facts["tensors"] == {"backbone": 29, "head": 60}
    assert facts["dtypes"] == {"float32": 89}
    assert facts["top_level"] == {"backbone": "dict", "head": "dict", "global_iter": "int"}
    assert facts["unknown"] == facts["unused_missing"] == []
    assert not facts["published_size"]
    assert not facts["mean_pose_published"]
    odd = check(changed(lambda c: (c["head"].update(more=torch.zeros(1)), c["head"].pop("init_cam"))))
    assert odd["unknown"] == ["head.more"]
    assert odd["unused_missing"] == ["head.init_cam"]
