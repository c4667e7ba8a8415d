"""Motion against analytic trajectories and the expectation of white noise."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from hsr_core.errors import ConfigError, ShapeError
from hsr_core.eval.lag_metrics import LagMeter, lag_ms
from hsr_core.eval.motion_metrics import (
    accel_error_mm,
    accel_mm,
    angular_accel_rad_s2,
    error_now_mm,
    jitter,
    per_frame2_to_m_s2,
)
from hsr_core.eval.motion_stream import MotionStream

FPS = 30.0


def along_x(values):
    out = np.zeros((len(values), 1, 3))
    out[:, 0, 0] = values
    return out


def swinging(t):
    """Fourteen joints on smooth paths, each with its own speed. (T, 14, 3) [m]."""
    j = np.arange(14)
    t = np.asarray(t)[:, None]
    return 0.3 * np.stack([np.sin(2 * t * (1 + 0.2 * j) + j), np.cos(1.7 * t + j), np.sin(0.7 * t + 2 * j)], -1)


def test_acceleration_of_a_parabola():
    """x = t^2 m has the second derivative 2 m/s^2: 2 / 30^2 m per frame^2 = 2.2222 mm/frame^2."""
    x = along_x((np.arange(12) / FPS) ** 2)
    error = accel_error_mm(x, np.zeros_like(x))
    assert np.isnan(error[[0, -1]]).all()
    assert error[1:-1] == pytest.approx(np.full(10, 2.2222), abs=1e-4)
    assert per_frame2_to_m_s2(error[1:-1], FPS) == pytest.approx(np.full(10, 2.0))
    np.testing.assert_array_equal(accel_mm(x), error)
    assert accel_error_mm(x, x)[1:-1] == pytest.approx(np.zeros(10))
    assert per_frame2_to_m_s2(1.0, 30) == pytest.approx(0.9)


def test_jitter_of_a_cubic():
    """x = t^3 m has the third derivative 6 m/s^3: 0.6 of 10 m/s^3."""
    values = jitter(along_x((np.arange(12) / FPS) ** 3), FPS)
    assert values[1:-2] == pytest.approx(np.full(9, 0.6))
    assert np.isnan(values[[0, -2, -1]]).all()


def test_white_noise_has_the_known_factors():
    """sigma 5 mm at 30 Hz: 19.5 mm/frame^2 = 17.6 m/s^2, jitter 96, error 8 mm; 10,000 frames, to 2 %."""
    noise = np.random.default_rng(0).normal(0, 0.005, (10_000, 14, 3))
    still = np.zeros_like(noise)
    accel = np.nanmean(accel_error_mm(noise, still))
    assert accel == pytest.approx(3.909 * 5, rel=0.02)
    assert per_frame2_to_m_s2(accel, FPS) == pytest.approx(17.6, rel=0.02)
    assert np.nanmean(jitter(noise, FPS)) == pytest.approx(7.137 * 0.005 * FPS**3 / 10, rel=0.02)
    assert 1e3 * np.linalg.norm(noise, axis=-1).mean() == pytest.approx(1.596 * 5, rel=0.02)


def test_differences_that_touch_an_invalid_frame_are_left_out():
    """Frame 5 of 12 is invalid, by the mask or by a NaN in the reference: triples 4, 5, 6 go, and nothing else."""
    x = along_x((np.arange(12) / FPS) ** 2)
    broken = x.copy()
    broken[5] = np.nan
    left = [1, 2, 3, 7, 8, 9, 10]
    for error in (accel_error_mm(x, 0 * x, np.arange(12) != 5), accel_error_mm(x, 0 * broken)):
        assert np.flatnonzero(np.isfinite(error)).tolist() == left
    # four frames t - 1 .. t + 2
    assert np.flatnonzero(np.isfinite(jitter(broken, FPS))).tolist() == [1, 2, 7, 8, 9]
    assert np.isnan(accel_mm(x[:2])).all()
    with pytest.raises(ShapeError):
        accel_error_mm(x, x[:-1])


def test_angular_acceleration_of_a_turn_by_half_t_squared():
    """Angle 1.5 t^2 about a fixed axis: 3 rad/s^2. A steady turn has none."""
    t = np.arange(20) / FPS
    axis = np.array([1, 2, 2]) / 3
    for angles, expected in ((1.5 * t**2, 3.0), (2 * t, 0.0)):
        R = Rotation.from_rotvec(angles[:, None] * axis).as_matrix()[:, None]
        values = angular_accel_rad_s2(R, FPS)
        assert values[1:-1] == pytest.approx(np.full(18, expected), abs=1e-9)


def test_angular_acceleration_does_not_care_about_the_frame_of_reference():
    keys = Rotation.random(5, random_state=0)
    R = Slerp(np.arange(5), keys)(np.linspace(0, 4, 40)).as_matrix()[:, None]
    turned = Rotation.random(random_state=1).as_matrix() @ R
    np.testing.assert_allclose(angular_accel_rad_s2(R, FPS)[1:-1], angular_accel_rad_s2(turned, FPS)[1:-1], atol=1e-9)


@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.1, 0.2, -0.05])
def test_lag_is_found_between_frames(delay_s):
    """A late copy of a smooth motion: within half a millisecond, a sixtieth of a frame."""
    t = np.arange(300) / FPS
    assert lag_ms(swinging(t - delay_s), swinging(t), FPS) == pytest.approx(1e3 * delay_s, abs=0.5)


def test_lag_equals_numpys_correlation():
    t = np.arange(80) / FPS
    predicted, reference = swinging(t - 0.07)[:, :1], swinging(t)[:, :1]
    meter = LagMeter(FPS, max_lag=5)
    for x, y in zip(predicted, reference, strict=True):
        meter.push(x, y)
    speeds = [np.linalg.norm(np.diff(m, axis=0), axis=-1)[:, 0] for m in (predicted, reference)]
    for lag, value in zip(range(-5, 6), meter.correlations(), strict=True):
        x, y = speeds[0][max(lag, 0) : 79 + min(lag, 0)], speeds[1][max(-lag, 0) : 79 + min(-lag, 0)]
        assert value == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-4)  # speeds are kept in steps of 10 um


def test_lag_survives_gaps_and_is_unknown_when_nothing_moves_or_it_is_too_long():
    t = np.arange(300) / FPS
    valid = np.ones(300, bool)
    valid[[50, 51, 120, 200]] = False
    assert lag_ms(swinging(t - 0.1), swinging(t), FPS, valid=valid) == pytest.approx(100, abs=0.5)
    assert np.isnan(lag_ms(np.zeros((50, 2, 3)), np.zeros((50, 2, 3)), FPS))
    assert np.isnan(lag_ms(swinging(t - 0.3), swinging(t), FPS, max_lag=3))
    with pytest.raises(ConfigError):
        LagMeter(0)


@pytest.mark.parametrize("seed", range(8))
def test_the_last_frames_of_a_short_sequence_are_not_taken_for_a_lag(seed):
    """18 frames of one joint, late by two: at 15 frames of delay two pairs are left, and two pairs always correlate."""
    reference = np.random.default_rng(seed).normal(0, 0.01, (20, 1, 3)).cumsum(0)
    assert lag_ms(reference[:18], reference[2:], FPS) == pytest.approx(2e3 / FPS, abs=10)


def test_chunks_with_warm_up_have_the_lag_of_the_whole_to_the_last_digit():
    t = np.arange(200) / FPS
    predicted, reference = swinging(t - 0.1), swinging(t)
    parts = []
    for start, end in ((0, 90), (90, 200)):
        meter = LagMeter(FPS)
        for k in range(max(start - meter.max_lag - 2, 0), end):
            meter.push(predicted[k], reference[k], scored=k >= start)
        parts.append(meter)
    for merged in (parts[0].merge(parts[1]), parts[1].merge(parts[0])):
        assert merged.lag_ms == lag_ms(predicted, reference, FPS)
    with pytest.raises(ConfigError, match="frame rates"):
        parts[0].merge(LagMeter(25))


def test_skipped_frames_break_a_motion():
    """Frames 10 and 11 are not pushed but numbered, or pushed as not valid: the same values."""
    t = np.arange(60) / FPS
    predicted, reference = swinging(t - 0.1), swinging(t)
    streams, meters = [MotionStream(FPS) for _ in range(2)], [LagMeter(FPS) for _ in range(2)]
    for k in range(60):
        skip = k in (10, 11)
        pair = (None, None) if skip else (predicted[k], reference[k])
        whole = streams[0].push(*pair)
        meters[0].push(*pair)
        if not skip:
            assert streams[1].push(*pair, index=k) == whole
            meters[1].push(*pair, index=k)
    np.testing.assert_array_equal(meters[0].sums, meters[1].sums)


def test_the_stream_gives_the_values_of_the_batch():
    """Frame 6 has no prediction: triples with it are NaN. Frame 12 is not to be scored: they are absent."""
    t = np.arange(20) / FPS
    rng = np.random.default_rng(1)
    reference = swinging(t)
    predicted = reference + rng.normal(0, 0.005, reference.shape)
    stream = MotionStream(FPS)
    values = [stream.push(None if k == 6 else predicted[k], None if k == 12 else reference[k]) for k in range(20)]
    valid = ~np.isin(np.arange(20), [6, 12])
    batch = accel_error_mm(predicted, reference, valid), jitter(predicted, FPS, valid)
    for k, now in enumerate(values):
        assert ("accel_error_mm_frame2" in now) == (k >= 2 and k not in (12, 13, 14))
        assert ("jitter_10m_s3" in now) == (k >= 3 and k not in (12, 13, 14, 15))
        if "accel_error_mm_frame2" in now:
            assert now["accel_error_mm_frame2"] == pytest.approx(batch[0][k - 1], nan_ok=True)
            assert np.isnan(now["accel_error_mm_frame2"]) == (k in (6, 7, 8))
        if "jitter_10m_s3" in now:
            assert now["jitter_10m_s3"] == pytest.approx(batch[1][k - 2], nan_ok=True)


def test_what_was_published_is_compared_with_where_the_person_is_then():
    """Reference at 1 m/s along x, seen exactly and published 100 ms later: 100 mm wrong in place, 0 about the root."""
    reference_s = np.arange(40) / FPS
    reference = np.zeros((40, 2, 3))
    reference[:, :, 0] = reference_s[:, None]
    reference[:, 1, 1] = 0.5
    published = reference[:30]
    publish_s = reference_s[:30] + 0.1
    where = error_now_mm(published, publish_s, reference, reference_s, root=None)
    assert where == pytest.approx(np.full(30, 100.0))
    about_root = error_now_mm(published, publish_s, reference, reference_s, root=(0,))
    assert about_root == pytest.approx(np.zeros(30), abs=1e-9)


def test_error_now_is_unknown_where_the_reference_is():
    reference_s = np.arange(10) / 10
    reference = swinging(reference_s)
    valid = np.arange(10) != 4
    publish_s = np.array([0.05, 0.35, 0.45, 0.85, 0.95, -0.1])
    published = swinging(publish_s)
    published[3] = np.nan
    errors = error_now_mm(published, publish_s, reference, reference_s, root=None, valid=valid, max_gap_s=0.11)
    assert np.isfinite(errors).tolist() == [True, False, False, False, False, False]
    between = 0.5 * (reference[0] + reference[1])
    assert errors[0] == pytest.approx(1e3 * np.linalg.norm(published[0] - between, axis=1).mean())
    assert np.isnan(error_now_mm(published, publish_s, reference[:1], reference_s[:1], root=None)).all()
