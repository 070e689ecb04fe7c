"""The mask embedding module against numbers of its published implementation (BMVOS)."""

from __future__ import annotations

import torch

from tests.golden import fill
from tests.golden.support import Golden, published
from voslab.methods.gam.embedding import MEM


@torch.no_grad()
def test_mask_embedding() -> None:
    golden = Golden("bmvos")
    weights = published("bmvos")
    assert fill.digest(weights) == golden.meta["weights_digest"]
    network = MEM()
    ours = {key.removeprefix("vos.mask_embedder.").replace(".conv.", "."): value for key, value in weights.items()}
    network.load_state_dict(ours)
    probs = [torch.from_numpy(golden[f"p_{age}_u8"]).float() / 255 for age in ("newest", "middle", "oldest")]
    outputs: list[torch.Tensor] = []
    # The second convolution's input is the first one's output behind its ReLU.
    network.conv2.register_forward_pre_hook(lambda _, inputs: outputs.append(inputs[0]))
    golden.check("out", network(torch.stack(probs, 1)))
    golden.check("conv1", outputs[0])
