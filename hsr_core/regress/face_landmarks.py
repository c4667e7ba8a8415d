"""The 70 face landmarks of dlib and OpenPose out of the face network's 468 points and the two irises."""

from __future__ import annotations

import numpy as np

from ..types import N_FACE_LANDMARKS, Array
from .face_network import FaceLandmarks

FACE_MESH: tuple[tuple[int, ...], ...] = (
    (127,), (93, 234), (132,), (58,), (172,), (136, 150), (149,), (148,), (152,),  # jaw: right ear to chin
    (377,), (378,), (365, 379), (397,), (288,), (361,), (323, 454), (356,),  # and on to the left ear
    (156,), (53, 63), (52, 105), (65, 66), (55, 107),  # right brow, from outside
    (285, 336), (295, 296), (282, 334), (283, 293), (383,),  # left brow, from inside
    (6, 168), (197,), (5,), (4,),  # bridge of the nose, downwards
    (75,), (97,), (2,), (326,), (305,),  # under the nose, from right
    (33,), (160,), (158,), (133,), (153,), (144,),  # right eye, from outside over the upper lid
    (362,), (385,), (387,), (263,), (373,), (380,),  # left eye, from inside over the upper lid
    (61,), (39,), (37,), (0,), (267,), (269,), (291,), (321, 405), (314,), (17,), (84,), (91, 181),  # lips, outer edge
    (78,), (82,), (13,), (312,), (308,), (317,), (14,), (87,),  # lips, inner edge
)  # fmt: skip
"""For each of iBUG's 68 points the face mesh's point that it is, or the two whose middle it is.

Rows are symmetric: of a mirrored face they are the mirrored ones. Right and left are the person's.

Source:
    Sagonas et al., 300 Faces in-the-Wild Challenge, 2013, for the 68 points; published correspondences to the face mesh
    (that of PeizhiYan/Mediapipe_2_Dlib_Landmarks and others), which agree on eyes, nose and lips. Where they do not, on
    jaw and brows, the choice that lies nearest to dlib's own landmarks on photographs.
"""

_PAIRS = np.array([(row[0], row[-1]) for row in FACE_MESH])


def face_landmarks(face: FaceLandmarks) -> Array:
    """Return the landmarks as `Regression.face_landmarks` has them; each has the score of the face."""
    out = np.empty((N_FACE_LANDMARKS, 3))
    out[: len(_PAIRS), :2] = 0.5 * (face.points[_PAIRS[:, 0], :2] + face.points[_PAIRS[:, 1], :2])
    out[-2:, :2] = face.right_eye.iris, face.left_eye.iris
    out[:, 2] = face.score
    return out
