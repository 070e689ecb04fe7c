"""Cutie's object transformer: queries of each object read its pixels, and its pixels read the queries (section 3.2)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.methods.cutie.blocks import ChannelAttentionBlock
from voslab.methods.cutie.summariser import position_code
from voslab.nn.aggregation import aggregate_product
from voslab.nn.blocks import flatten_hw


class Attention(nn.Module):
    """Multi-head attention with masks that all heads share, in the layout of `nn.MultiheadAttention`.

    Args:
        channels: C.
        heads: number of heads, a divisor of C.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.project.weight)
        for layer in (self.project, self.out):
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        query: Float[Tensor, "n q c"],
        key: Float[Tensor, "n m c"],
        value: Float[Tensor, "n m c"],
        blocked: Bool[Tensor, "n q m"] | None = None,
    ) -> Float[Tensor, "n q c"]:
        """Read values N M C with keys N M C by queries N Q C; `blocked` N Q M is True where a query may not read."""
        weights, biases = self.project.weight.chunk(3), self.project.bias.chunk(3)
        queries, keys, values = (
            torch.unflatten(F.linear(x, *layer), 2, (self.heads, -1)).transpose(1, 2)
            for x, *layer in zip((query, key, value), weights, biases, strict=True)
        )
        mask = None if blocked is None else ~blocked.unsqueeze(1)
        read = F.scaled_dot_product_attention(queries, keys, values, mask)
        return self.out(read.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class QueryAttention(nn.Module):
    """Attention of queries whose residual connection starts after the normalisation: LN(x) + attention(LN(x))."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = Attention(channels, heads)

    def forward(
        self,
        x: Tensor,
        code: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        blocked: Tensor | None = None,
    ) -> Tensor:
        """Read values N M C by keys; without keys, the queries N Q C read each other."""
        x = self.norm(x)
        query = x + code
        key, value = (query, x) if key is None or value is None else (key, value)
        return x + self.attention(query, key, value, blocked)  # type: ignore[no-any-return]


class TransformerBlock(nn.Module):
    """One block of the object transformer.

    Args:
        channels: C.
        heads: number of attention heads.
        feedforward: channels of the hidden layer of the queries' feed-forward network.
    """

    def __init__(self, channels: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.read_pixels = QueryAttention(channels, heads)
        self.read_queries = QueryAttention(channels, heads)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, feedforward), nn.ReLU(), nn.Linear(feedforward, channels)
        )
        self.pixels = Attention(channels, heads)
        self.refine = ChannelAttentionBlock(channels)

    def forward(
        self,
        x: Float[Tensor, "n q c"],
        pixels: Float[Tensor, "n c h w"],
        query_code: Float[Tensor, "n q c"],
        pixel_code: Float[Tensor, "n hw c"],
        blocked: Bool[Tensor, "n q hw"],
    ) -> tuple[Float[Tensor, "n q c"], Float[Tensor, "n c h w"]]:
        """Update queries and pixels.

        Args:
            x: queries N Q C.
            pixels: N C h w.
            query_code: position code of queries, N Q C.
            pixel_code: position code of pixels, N hw C.
            blocked: pixels that a query may not read, N Q hw.
        """
        flat = flatten_hw(pixels)
        located = flat + pixel_code
        x = self.read_pixels(x, query_code, located, flat, blocked)
        x = self.read_queries(x, query_code)
        x = x + self.feedforward(x)
        flat = flat + self.pixels(located, x + query_code, x)
        return x, self.refine(flat.transpose(1, 2).reshape(pixels.shape))


class ObjectTransformer(nn.Module):
    """Turns pixel readouts into object readouts.

    Args:
        channels: channels C of readouts.
        queries: number Q of queries per object, even. Half of them read the foreground, half the background.
        blocks: number of blocks.
        heads: number of attention heads.
        feedforward: see `TransformerBlock`.
    """

    def __init__(self, channels: int, queries: int, blocks: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(queries, channels))
        self.query_code = nn.Parameter(torch.randn(queries, channels))
        self.summary_query = nn.Linear(channels, channels)
        self.summary_code = nn.Linear(channels, channels)
        self.pixel = nn.Conv2d(channels, channels, 1)
        self.pixel_code = nn.Conv2d(channels, channels, 1)
        self.blocks = nn.ModuleList(TransformerBlock(channels, heads, feedforward) for _ in range(blocks))
        self.predict = nn.ModuleList(nn.Conv2d(channels, 1, 1) for _ in range(blocks + 1))

    def forward(
        self, readout: Float[Tensor, "b o c h w"], memory: Float[Tensor, "b o q d"], slot_mask: Bool[Tensor, "b o"]
    ) -> tuple[Float[Tensor, "b o c h w"], Float[Tensor, "b o l h w"]]:
        """Transform the pixel readouts of objects, which see each other's mask predictions.

        Args:
            readout: B O C h w.
            memory: summed object summaries B O Q C+1.
            slot_mask: B O, slots in use.

        Returns:
            object readouts B O C h w, and the log-odds of the masks before and after each block, B O L h w.
        """
        objects = slot_mask.shape[:2]
        pixels = readout.flatten(0, 1)
        summary = (memory[..., :-1] / (memory[..., -1:] + 1e-4)).flatten(0, 1)
        x, query_code = self.query + self.summary_query(summary), self.query_code + self.summary_code(summary)
        pixel_code = flatten_hw(self.pixel_code(pixels)) + position_code(pixels)
        pixels = self.pixel(pixels)
        levels = [self._predict(0, pixels, objects)]
        for number, block in enumerate(self.blocks, 1):
            x, pixels = block(x, pixels, query_code, pixel_code, self.blocked(levels[-1], slot_mask))
            levels.append(self._predict(number, pixels, objects))
        return torch.unflatten(pixels, 0, objects), torch.stack(levels, 2)

    def blocked(self, log_odds: Float[Tensor, "b o h w"], slot_mask: Bool[Tensor, "b o"]) -> Bool[Tensor, "n q hw"]:
        """Compute which pixels each query may not read.

        Args:
            log_odds: predicted masks B O h w.
            slot_mask: B O, slots in use.

        Returns:
            N Q hw; a query that could read nothing reads everything.
        """
        logits = aggregate_product(log_odds, slot_mask)
        foreground = (logits[:, 1:] >= logits.amax(1, keepdim=True)).flatten(2).flatten(0, 1).unsqueeze(1)
        half = len(self.query) // 2
        blocked = torch.cat([~foreground.expand(-1, half, -1), foreground.expand(-1, half, -1)], 1)
        return blocked & ~blocked.all(2, keepdim=True)

    def _predict(self, level: int, pixels: Tensor, objects: torch.Size) -> Tensor:
        return torch.unflatten(self.predict[level](F.relu(pixels))[:, 0], 0, objects)
