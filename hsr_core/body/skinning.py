"""Forward kinematics and linear blend skinning in torch, differentiable."""

from __future__ import annotations

import torch


def ancestor_table(parents: tuple[int, ...]) -> torch.Tensor:
    """Return (K, J) int64: row k has each joint's 2^k-th ancestor, J where there is none. Row 0 is the parents."""
    none = len(parents)
    row = [parent if parent >= 0 else none for parent in parents]
    rows = []
    while min(row) < none:
        rows.append(row)
        row = [row[up] if up < none else none for up in row]
    return torch.tensor(rows)


def rigid_chain(
    rotmats: torch.Tensor, joints: torch.Tensor, ancestors: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run forward kinematics for all joints at once.

    A joint's motion is the product along its path to the root. Each round doubles the length of the products, so a
    tree of depth d takes log2(d) rounds (4 for SMPL-X) and not one step for each joint.

    Args:
        rotmats: (B, J, 3, 3) relative to the parent. joints: (B, J, 3) at rest [m]. ancestors: From `ancestor_table`.

    Returns:
        Global rotations (B, J, 3, 3) and posed joints (B, J, 3) [m].

    Source:
        Loper et al., SMPL, 2015, eq. (4); pointer jumping: Hillis and Steele, Data Parallel Algorithms, 1986.
    """
    batch = rotmats.shape[0]
    still = torch.eye(3, 4, dtype=rotmats.dtype, device=rotmats.device).expand(batch, 1, 3, 4)
    at_parent = torch.cat([joints, torch.zeros_like(joints[:, :1])], dim=1).index_select(1, ancestors[0])
    motion = torch.cat([rotmats, (joints - at_parent)[..., None]], dim=-1)
    for up in ancestors:
        before = torch.cat([motion, still], dim=1).index_select(1, up)
        moved = before[..., :3] @ motion
        motion = torch.cat([moved[..., :3], moved[..., 3:] + before[..., 3:]], dim=-1)
    return motion[..., :3], motion[..., 3]


def skin(
    vertices: torch.Tensor, weights: torch.Tensor, rotations: torch.Tensor, posed: torch.Tensor, joints: torch.Tensor
) -> torch.Tensor:
    """Blend the joints' rigid motions (linear blend skinning).

    Args:
        vertices: (B, V, 3) at rest [m]. weights: (V, J). rotations: (B, J, 3, 3) global.
        posed: (B, J, 3) posed joints. joints: (B, J, 3) joints at rest.

    Returns:
        (B, V, 3) [m].

    Source:
        Loper et al., SMPL, 2015, eq. (7).
    """
    shift = posed - (rotations @ joints[..., None])[..., 0]
    motion = torch.cat([rotations, shift[..., None]], dim=-1).flatten(2)  # (B, J, 12)
    per_vertex = (weights @ motion).unflatten(-1, (3, 4))
    return (per_vertex[..., :3] @ vertices[..., None])[..., 0] + per_vertex[..., 3]
