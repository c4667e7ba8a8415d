"""Warnings that are said once."""

from __future__ import annotations

from unittest import mock

from hsr.notices import KEPT, Notices


def test_a_notice_is_said_once_and_again_when_it_was_forgotten():
    logger = mock.Mock()
    notices = Notices(logger)
    for _ in range(3):
        notices.warn("a", "text")
    assert logger.warning.call_count == 1
    notices.forget("a")
    notices.warn("a", "text")
    notices.warn("a", "text", every_s=0.0)
    assert logger.warning.call_count == 3


def test_what_came_from_outside_is_not_remembered_for_ever():
    notices = Notices(mock.Mock())
    for length in range(10 * KEPT):
        notices.warn(("bad", f"{length} bytes"), "text")
    assert len(notices._said) == KEPT
