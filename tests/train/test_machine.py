"""Facts and switches of the machine."""

from __future__ import annotations

import torch

from cutbert.train.machine import without_onednn


def test_threads_that_overlap_leave_onednn_as_the_first_found_it() -> None:
    assert torch.backends.mkldnn.enabled
    with without_onednn:
        with without_onednn:
            assert not torch.backends.mkldnn.enabled
        assert not torch.backends.mkldnn.enabled
    without_onednn.__enter__()
    without_onednn.__enter__()  # by another thread, before the first has left
    without_onednn.__exit__()
    assert not torch.backends.mkldnn.enabled
    without_onednn.__exit__()
    assert torch.backends.mkldnn.enabled
