"""Which frames are imitated: jumps are dropped before they are smoothed, gaps begin a new episode."""

from __future__ import annotations

import numpy as np
import pytest
from export_people import write_recording

from hsr_core.export.inputs import read_input
from hsr_core.imitate.pieces import judge, pieces_of
from hsr_core.retarget.gate import Reason
from hsr_core.retarget.settings import GateSettings

GAP_S = 0.2


@pytest.fixture
def track_of(tmp_path, open_body):
    """Return a function that gives person 1 of a made recording, some arrays of it changed."""

    def make(change=lambda arrays: None, **recording):
        path = write_recording(tmp_path / "people.npz", open_body, 40, **recording)
        with np.load(path) as file:
            arrays = dict(file)
        change(arrays)
        np.savez(path, **arrays)
        return read_input(str(path), tmp_path).chosen("1")[0]

    return make


def pieces(track):
    return list(pieces_of(judge(track, "level", GateSettings(), GAP_S), GAP_S))


def moved(frames: slice, metres: float):
    def change(arrays):
        arrays["raw_transl"][frames, 0, 0] += metres

    return change


def test_an_undisturbed_person_is_one_piece(track_of):
    (piece,) = pieces(track_of())
    assert len(piece.track) == 40
    assert piece.gated == {}
    assert piece.track.seen().all()


def test_a_jump_of_one_frame_is_left_out_and_counted(track_of):
    (piece,) = pieces(track_of(moved(slice(20, 21), 0.7)))
    assert piece.gated == {"jump": 1}
    assert np.flatnonzero(~piece.track.seen()).tolist() == [20]
    assert piece.reasons[20] is Reason.JUMP


def test_somebody_who_stays_after_a_jump_begins_a_new_piece(track_of):
    first, second = pieces(track_of(moved(slice(20, None), 0.7)))
    assert [len(first.track), len(second.track)] == [20, 16]  # four frames until the new place is believed
    assert second.track.first == 24
    assert (
        judge(track_of(moved(slice(20, None), 0.7)), "level", GateSettings(), GAP_S).reasons[20:24]
        == (Reason.JUMP,) * 4
    )


@pytest.mark.parametrize(("missing", "lengths"), [(range(10, 13), [40]), (range(10, 20), [10, 20])])
def test_a_gap_is_missing_and_a_long_one_begins_a_new_piece(track_of, missing, lengths):
    found = pieces(track_of(missing=tuple(missing)))
    assert [len(piece.track) for piece in found] == lengths
    assert sum(piece.reasons.count(None) for piece in found) == (len(missing) if len(lengths) == 1 else 0)


def test_who_returns_elsewhere_after_a_gap_is_no_jump(track_of):
    first, second = pieces(track_of(moved(slice(20, None), 0.7), missing=tuple(range(10, 20))))
    assert (first.gated, second.gated) == ({}, {})


def test_frames_without_confidence_are_dropped(track_of):
    def unsure(arrays):
        arrays["confidence"][5:8] = 0.1

    (piece,) = pieces(track_of(unsure))
    assert piece.gated == {"low score": 3}


def test_predicted_frames_are_not_seen(track_of):
    (piece,) = pieces(track_of(predicted=(7, 8)))
    assert piece.reasons[7] is None
    assert piece.gated == {}
