"""Where the face network's 468 landmarks lie on a body model's head.

No table is needed and any head will do: the template's face is drawn, the network finds its landmarks in the drawing,
and each is carried back to the triangle that is seen there.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..errors import BadFile
from ..geometry.raster import Topology, image_points, rasterize, render_mesh
from ..types import Array, Camera, Frame
from .crop import Roi
from .face_network import FaceNetwork, roi_from_landmarks

_SIDE = 384
_DISTANCE_M = 1.2
_FACE_M = 0.30
_SKIN_RGB = (224, 172, 142)


@dataclass(frozen=True, eq=False)
class FacePoints:
    """Landmarks as points on the mesh.

    Attributes:
        corners: (468, 3) vertex ids.
        weights: (468, 3) barycentric.
        on_face: (468,) bool; landmarks on the outline that no triangle is seen at are false.
    """

    corners: Array
    weights: Array
    on_face: Array

    def at(self, vertices: Array) -> Array:
        """Return the landmarks' places on a shaped mesh. Shape (V, 3) -> (468, 3) [m]."""
        return np.einsum("nk,nka->na", self.weights, vertices[self.corners])


def find_face_points(vertices: Array, faces: Array, eyes: Array, network: FaceNetwork) -> FacePoints:
    """Return the landmarks on a template head.

    Args:
        vertices: (V, 3) rest vertices [m], y up, face towards +z.
        faces: (F, 3).
        eyes: (2, 3) left and right eyeball joints.
        network: Finds the landmarks.

    Raises:
        BadFile: The network does not see a face on this mesh.
    """
    middle = eyes.mean(0)
    near = np.abs(vertices - middle).max(1) < 0.25
    topology = Topology(faces[near[faces].all(1)])
    # Facing the camera: x stays, y and z turn round.
    in_camera = (vertices - middle) * [1, -1, -1] + [0, -0.03, _DISTANCE_M]
    f = _SIDE * _DISTANCE_M / _FACE_M
    K = np.array([[f, 0, _SIDE / 2 - 0.5], [0, f, _SIDE / 2 - 0.5], [0, 0, 1]])
    camera = Camera(K, (_SIDE, _SIDE))
    picture, _, _ = render_mesh(in_camera.astype(np.float32), topology, camera, color_rgb=_SKIN_RGB, background=90)
    frame = Frame(_with_eyes(picture, (eyes - middle) * [1, -1, -1] + [0, -0.03, _DISTANCE_M], f), 0)
    roi, score = Roi((_SIDE / 2, _SIDE / 2), float(_SIDE)), 0.0
    for _ in range(3):
        points, score = network.mesh(frame, roi)
        roi = roi_from_landmarks(points)
    if score < 0.5:
        raise BadFile(f"the face network sees no face on this body's head (score {score:.2f}): is it y up, facing +z?")
    seen = rasterize(*image_points(in_camera.astype(np.float32), camera), topology, (_SIDE, _SIDE))
    return _lift(points[:, :2], seen, topology.faces)


def _with_eyes(picture: Array, eyes: Array, f: float) -> Array:
    """Paint irises: a bare mesh has none, and the network looks for them."""
    for eye in eyes:
        u, v = (eye[:2] / eye[2] * f + _SIDE / 2 - 0.5).round().astype(int)
        cv2.circle(picture, (int(u), int(v)), round(0.0058 * f / _DISTANCE_M), (60, 70, 90), -1, cv2.LINE_AA)
    return picture


def _lift(uv: Array, seen, faces: Array) -> FacePoints:
    """Carry pixels to the nearest seen fragment."""
    at = np.full(_SIDE * _SIDE, -1)
    at[seen.pixel] = np.arange(len(seen.pixel))
    distance, labels = cv2.distanceTransformWithLabels(
        (at < 0).astype(np.uint8).reshape(_SIDE, _SIDE), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    fragment_of_label = np.full(labels.max() + 1, -1)
    covered = np.flatnonzero(at >= 0)
    fragment_of_label[labels.ravel()[covered]] = at[covered]
    cell = np.clip(uv.round().astype(int), 0, _SIDE - 1)
    flat = cell[:, 1] * _SIDE + cell[:, 0]
    fragment = fragment_of_label[labels.ravel()[flat]]
    w1, w2 = seen.w1[fragment], seen.w2[fragment]
    weights = np.stack([1 - w1 - w2, w1, w2], 1).astype(np.float64)
    return FacePoints(faces[seen.face[fragment]], weights, distance.ravel()[flat] < 1.5)
