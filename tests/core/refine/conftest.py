from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from hsr_core.body import EhmBody
from hsr_core.refine.skin import CanonicalBody
from hsr_core.synth.benchmark import BenchmarkSequence, benchmark_sequence
from hsr_core.types import HumanParams


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Optimisations are many small products: on a busy machine threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def person() -> HumanParams:
    """Somebody in front of a camera, bent at every joint, with a shape and a face of their own."""
    rng = np.random.default_rng(3)
    draw = lambda size, *shape: (rng.normal(size=shape) * size).astype(np.float32)  # noqa: E731
    return HumanParams(
        global_orient=np.array([3.0, 0.2, -0.1], np.float32),
        transl=np.array([0.1, -0.2, 3.0], np.float32),
        body_pose=draw(0.3, 21, 3),
        left_hand_pose=draw(0.3, 15, 3),
        right_hand_pose=draw(0.3, 15, 3),
        jaw_pose=np.array([0.2, 0, 0], np.float32),
        betas=draw(0.5, 10),
        head_betas=draw(0.5, 10),
    )


@pytest.fixture(scope="session")
def canonical(open_body: EhmBody, person: HumanParams) -> CanonicalBody:
    return CanonicalBody.from_body(open_body, person)


@pytest.fixture(scope="session")
def sequence(open_body: EhmBody) -> BenchmarkSequence:
    """A clothed person who turns once, everything known: forty frames of 160 x 112."""
    return benchmark_sequence(0, body=open_body)
