"""What is published of people who are not seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..types import FrameResult, HumanEstimate, Part, TrackState


def unseen(estimate: HumanEstimate, state: TrackState) -> HumanEstimate:
    """Return the last estimate of a person who is not seen now: held, with every score at zero."""
    keypoints2d = estimate.keypoints2d.copy()
    keypoints2d[:, 2] = 0
    seen = estimate.regression
    nothing = replace(
        seen,
        score=0.0,
        joint_score=np.zeros_like(seen.joint_score),
        part_score=np.zeros_like(seen.part_score),
        parts=Part.NONE,
        mask=None,
        mask_A_crop_img=None,
        face_landmarks=None,
    )
    return replace(estimate, state=state, regression=nothing, keypoints2d=keypoints2d, root_velocity=None)


def all_lost(result: FrameResult, stamp_ns: int) -> FrameResult:
    """Return the last message of everybody who is there in a result, LOST: all tracks are forgotten at once.

    With another stamp than the result's the camera's pose in the world is not known.
    """
    there = [person for person in result.people if person.state is not TrackState.LOST]
    gone = tuple(replace(unseen(person, TrackState.LOST), primary=False) for person in there)
    result = replace(result, people=gone)
    if stamp_ns == result.stamp_ns:
        return result
    return replace(result, stamp_ns=stamp_ns, world_frame="", T_world_cam=None)
