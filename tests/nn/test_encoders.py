from __future__ import annotations

import torch
from torch import nn

from src.nn.encoders import centre_key, clouds


@torch.no_grad()
def test_centred_keys_find_their_like_where_plain_ones_look_anywhere() -> None:
    torch.manual_seed(0)
    kinds = torch.arange(8) >= 4
    patterns = 2 * torch.rand(2, 64)
    features = (3 * torch.rand(64, 1) + patterns[kinds.long()].T + 0.2 * torch.rand(64, 8))[None, :, :, None]
    key = nn.Conv2d(64, 16, 1)

    def alike() -> float:
        keys = key(features)[0, :, :, 0]
        weights = (keys.T @ keys / 4).softmax(1)
        return float((weights * (kinds[:, None] == kinds)).sum(1).mean())

    before = alike()
    centre_key(key, features)
    torch.testing.assert_close(key(features).mean((0, 2, 3)), torch.zeros(16), atol=1e-4, rtol=0)
    assert before < 0.6
    assert alike() > 0.9


def test_the_stand_in_pictures_are_always_the_same_and_leave_the_global_stream_alone() -> None:
    state = torch.get_rng_state()
    pictures = clouds()
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(pictures, clouds())
    assert (pictures.min() >= 0) & (pictures.max() <= 1)
    assert pictures.std() > 0.05
