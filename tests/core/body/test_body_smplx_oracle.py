"""A second opinion: the smplx package's own skinning (non-commercial, an optional extra, only for this test)."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from hsr_core.body import EhmBody, EhmParams

lbs = pytest.importorskip(
    "smplx.lbs", reason="pip install 'hsr-core[smplx]' (non-commercial licence) to compare with it"
)


def regressor_of(part) -> torch.Tensor:
    """Joints from all vertices (J, V): the module keeps the columns that are not zero."""
    whole = torch.zeros(len(part.J_regressor), len(part.template))
    whole[:, part.regressed] = part.J_regressor
    return whole


@pytest.mark.parametrize("which", ["open", "synthetic"])
def test_body_without_head_parameters_equals_smplx_lbs(which, request, make_params):
    """Both skin the same grafted template; smplx regresses its joints from it and applies the pose basis."""
    body: EhmBody = request.getfixturevalue(f"{which}_body")
    people = [make_params(body, np.random.default_rng(seed)) for seed in range(3)]
    people = [dataclasses.replace(p, transl=np.zeros(3, np.float32)) for p in people]
    params = EhmParams.from_human(people)
    part = body.layer.full.body
    for i, person in enumerate(people):
        template = torch.as_tensor(body.rest(person)[0])
        still = torch.zeros(1, 3, 3)
        pose = torch.cat(
            [params.global_orient[i : i + 1, None], params.body_pose[i : i + 1], still,
             params.left_hand_pose[i : i + 1], params.right_hand_pose[i : i + 1]], dim=1,
        ).flatten(1)  # fmt: skip
        posedirs = part.posedirs if len(part.posedirs) else torch.zeros(54 * 9, template.numel())
        vertices, joints = lbs.lbs(
            torch.zeros(1, 1), pose, template[None], torch.zeros(*template.shape, 1), posedirs,
            regressor_of(part), torch.tensor(part.parents), part.weights,
        )  # fmt: skip
        ours = body.pose_one(person)
        print(which, np.abs(ours.vertices - vertices[0].numpy()).max(), np.abs(ours.joints - joints[0].numpy()).max())
        np.testing.assert_allclose(ours.vertices, vertices[0], atol=5e-6)
        np.testing.assert_allclose(ours.joints, joints[0], atol=5e-6)


def test_head_equals_smplx_lbs(synthetic_body, make_params, model_folder):
    """FLAME's own skinning of the head, before lids, scale and graft."""
    person = make_params(synthetic_body, np.random.default_rng(4))
    head = synthetic_body.layer.full.head
    shaped = head.shaped(*(torch.as_tensor(v)[None] for v in (person.head_betas, person.head_expression)))
    pose = torch.as_tensor(np.stack([np.zeros((2, 3)), [person.jaw_pose, person.leye_pose]]).reshape(4, 3))
    pose = torch.cat([pose, torch.as_tensor(person.reye_pose)[None]]).reshape(1, 15).float()
    vertices, _ = lbs.lbs(
        torch.zeros(1, 1), pose, shaped, torch.zeros(*shaped.shape[1:], 1), head.posedirs,
        regressor_of(head), torch.tensor(head.parents), head.weights,
    )  # fmt: skip
    plain = dataclasses.replace(person, eyelids=np.zeros(2, np.float32), head_scale=np.ones(3, np.float32))
    ours = synthetic_body.rest(plain)[0]
    content = model_folder[1]
    heads = np.setdiff1d(np.arange(5023), content["kept"])
    offset = ours[content["ids"][heads]] - vertices[0, heads].numpy()
    np.testing.assert_allclose(offset, np.broadcast_to(offset[0], offset.shape), atol=3e-6)  # one shift for all
