from __future__ import annotations

import torch

from voslab.nn.encoders import KeyValue


@torch.no_grad()
def test_centred_keys_find_their_like_where_plain_ones_look_anywhere() -> None:
    torch.manual_seed(0)
    kinds = torch.arange(16) >= 8
    patterns = 4 * torch.rand(2, 64)
    common = 3 * torch.rand(64, 1)
    features = (common + patterns[kinds.long()].T + 0.2 * torch.rand(64, 16))[None, :, :, None]

    def lookalikes(centred: bool) -> float:
        """Of two projections, one of them shifted as training does to all its weights at once."""
        torch.manual_seed(1)
        query, memory = KeyValue(64, 16, 4, centred), KeyValue(64, 16, 4, centred)
        memory.load_state_dict(query.state_dict())
        memory.key.weight += 0.1 * torch.randn(16, 1, 1, 1)
        keys, asked = (layer(features)[0][0, :, :, 0] for layer in (memory, query))
        weights = (asked.T @ keys / 4).softmax(1)
        return float((weights * (kinds[:, None] == kinds)).sum(1).mean())

    assert lookalikes(centred=False) < 0.7
    assert lookalikes(centred=True) > 0.9


def test_a_common_part_of_all_positions_changes_no_centred_key() -> None:
    layer = KeyValue(6, 3, 2, centred=True)
    x = torch.rand(2, 6, 4, 5)
    key, value = layer(x)
    shifted, other = layer(x + torch.rand(2, 6, 1, 1))
    torch.testing.assert_close(shifted, key, atol=1e-5, rtol=0)
    assert (other - value).abs().max() > 1e-3, "values are of all there is"
