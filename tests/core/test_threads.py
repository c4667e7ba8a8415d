from __future__ import annotations

import os

import torch

from hsr_core.threads import few_torch_threads


def test_torch_leaves_half_of_the_cores_and_gets_them_back():
    before = torch.get_num_threads()
    with few_torch_threads() as count:
        assert count == torch.get_num_threads() == min(4, max(1, os.cpu_count() // 2))
    assert torch.get_num_threads() == before
