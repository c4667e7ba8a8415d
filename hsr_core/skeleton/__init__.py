"""Skeletons that other tools know: REP-155's 20 joints, 165 revolute joints, their URDFs, 18 points of an image."""
