"""Gaussians as a PointCloud2: coloured points for RViz, all parameters for what can draw them."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField

from hsr_core.types import Array

from .images import as_bytes
from .stamps import header

_SH_C0 = 0.28209479177387814
"""Degree 0 of the real spherical harmonics: colour = 0.5 + _SH_C0 * f_dc."""

POINT = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgba", "<u4")]
    + [(name, "<f4") for name in ("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3", "opacity")]
    + [(name, "<f4") for name in ("f_dc_0", "f_dc_1", "f_dc_2")]
)
"""60 bytes: m; 0xAARRGGBB; standard deviations along the axes, m; w x y z; [0, 1]; SH degree 0."""

_FIELDS = [
    PointField(
        name=name, offset=POINT.fields[name][1], count=1,
        datatype=PointField.UINT32 if name == "rgba" else PointField.FLOAT32,
    )
    for name in POINT.names
]  # fmt: skip


def splats_to_msg(
    means: Array, scales: Array, quats_wxyz: Array, opacities: Array, colors: Array, stamp_ns: int, frame_id: str
) -> PointCloud2:
    """Return Gaussians as points; those that are not finite are left out.

    Args:
        means: (N, 3) [m]. scales: (N, 3) standard deviations [m]. quats_wxyz: (N, 4), unit.
        opacities: (N,) in [0, 1]. colors: (N, 3), 0..1.
    """
    table = np.empty(len(means), POINT)
    columns = np.column_stack([scales, quats_wxyz, opacities, (np.asarray(colors) - 0.5) / _SH_C0])
    for name, column in zip(("x", "y", "z"), np.asarray(means).T, strict=True):
        table[name] = column
    for name, column in zip(POINT.names[4:], columns.T, strict=True):
        table[name] = column
    bgra = np.column_stack([np.asarray(colors)[:, ::-1], opacities])
    bytes_ = np.rint(np.clip(np.nan_to_num(bgra), 0, 1) * 255).astype(np.uint8)
    table["rgba"] = np.ascontiguousarray(bytes_).view("<u4")[:, 0]
    table = table[np.isfinite(means).all(axis=1) & np.isfinite(columns).all(axis=1)]
    return PointCloud2(
        header=header(stamp_ns, frame_id),
        height=1,
        width=len(table),
        fields=_FIELDS,
        is_bigendian=False,
        point_step=POINT.itemsize,
        row_step=POINT.itemsize * len(table),
        data=as_bytes(table.view(np.uint8)) if len(table) else as_bytes(np.empty(0, np.uint8)),
        is_dense=True,
    )
