"""PEAR: one vision transformer regresses EHM-s from one person crop."""

from __future__ import annotations

import os

from ...config import Settings

WEIGHTS_VARIABLE = "HSR_PEAR_WEIGHTS"
PUBLISHED = "pear_model.pt of BestWJH/PEAR_models"
"""The published weights, on Hugging Face."""


def weights_path(settings: Settings) -> str:
    """Return the checkpoint that is set, by `pear.weights` or the environment; "" when none is."""
    return os.path.expanduser(settings.pear.weights or os.environ.get(WEIGHTS_VARIABLE, ""))
