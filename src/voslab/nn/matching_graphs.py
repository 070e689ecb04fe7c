"""What the graphs of matching methods have in common: shapes, parts, and how memories grow, in words.

See `src/voslab/core/export_graph.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from voslab.core import Masks
from voslab.core.export_graph import CELLS, COLUMNS, MEMORY, OBJECTS, ROWS, Axis, Graph, Graphs, Shape
from voslab.nn.affinity import Kernel, attend
from voslab.nn.aggregation import aggregate_product
from voslab.nn.blocks import flatten_hw, unflatten_hw
from voslab.nn.resnet import Pyramid

PRODUCT = (
    "p_0 = prod_n (1 - p_n) for the background, all p clipped to [1e-7, 1 - 1e-7], then odds p / (1 - p) divided by "
    "their sum (STM, STCN); `decode` does it"
)
BEGIN = (
    "First frame: resize and pad picture and masks as `working_size` and `padding` say, a plane of 0 and 1 per object; "
    "nothing is segmented."
)
FOLLOWING = "Each later frame: `encode`, then `read` with the whole memory, then `decode`."
END = (
    "`probabilities` has the background first. Crop the padding, resize to the picture (bilinear, pixel centres), take "
    "the largest; without the background they are the `masks` with which the frame is memorised."
)
LATE = (
    "Objects that appear later: given probs win inside (multiply older ones by 1 - plane), and join `masks` behind "
    "the others. Memorise all together; their part of the values starts a memory of its own, read apart; concatenate "
    "the readouts along the objects."
)

ENCODE = "a frame: what it is asked with, and what the decoder sees of it"
MEMORISE = "a frame with its masks: keys and values of its positions, objects apart, to be appended along axis 2"
READ = "what every position of a frame finds in the memory"
DECODE = "readouts and the frame's features: aggregated probabilities, background first"


def picture(stride: int = 16) -> Shape:
    """Of `image`."""
    return (1, 3, Axis("rows", stride), Axis("columns", stride))


def probs(stride: int = 16) -> Shape:
    """Of `masks`: a frame's objects, hard or soft."""
    return (1, OBJECTS, Axis("rows", stride), Axis("columns", stride))


def pyramid(channels: Sequence[int]) -> dict[str, Shape]:
    """Of features at strides 4, 8 and 16."""
    named = zip(("f4", "f8", "f16"), channels, (4, 2, 1), strict=True)
    return {name: (1, count, Axis("rows", times), Axis("columns", times)) for name, count, times in named}


def plane(channels: int) -> Shape:
    """Of a frame's features on the grid."""
    return (1, channels, ROWS, COLUMNS)


def own(channels: int) -> Shape:
    """Of every object's features on the grid."""
    return (1, OBJECTS, channels, ROWS, COLUMNS)


def distribution(stride: int = 16) -> dict[str, Shape]:
    """Of aggregated probabilities, background first."""
    return {"probabilities": (1, Axis("objects", 1, 1), Axis("rows", stride), Axis("columns", stride))}


def remembered(keys: int, values: int, shared: bool, positions: Axis = MEMORY) -> dict[str, Shape]:
    """Of keys, one for all objects or one each, and values: a memory's, or those of a frame's `CELLS`."""
    return {"keys": (1, 1 if shared else OBJECTS, positions, keys), "values": (1, OBJECTS, positions, values)}


def used(masks: Tensor) -> Masks:
    """Planes of objects that are all there."""
    return Masks(masks, torch.ones_like(masks[:, :, 0, 0], dtype=torch.bool))


def probabilities(odds: Tensor) -> Tensor:
    """Log-odds 1 O H W -> aggregated probabilities 1 (O+1) H W, background first."""
    return aggregate_product(odds, torch.ones_like(odds[:, :, 0, 0], dtype=torch.bool)).softmax(1)


def growing(every: int, previous: bool, bound: int | None, anew: bool = False) -> tuple[str, ...]:
    """How a video is segmented with a memory of whole frames; `anew`: counted from where objects appear."""
    last = (
        "the frame before is read, too, until the next one takes its place" if previous else "others are not memorised"
    )
    late = f" A frame in which they do stays, and the next that stays is {every} behind it." if anew else ""
    most = "" if bound is None else f" At most {bound} stay: of more, the oldest but the first gives way."
    return (
        BEGIN,
        f"Before each later frame: `memorise` the one before it with its final masks; append keys and values to the "
        f"memory (along axis 2). Frames 0, {every}, {2 * every}, … stay; {last}.{most}",
        FOLLOWING,
        END,
        LATE + late,
    )


def fine(f4: Tensor, f8: Tensor) -> Pyramid:
    """The features that decoders look at; the deepest is none of them, and any tensor stands for it."""
    return Pyramid(f4, f8, f8)


def query_and_memory(network: Any, query: Callable[..., Any], sigma: float | None = None, anew: bool = False) -> Graphs:
    """Of methods with an encoder for the frame that asks and one for those remembered (STM, MiVOS).

    Args:
        network: the method's.
        query: its `Query`.
        sigma: of the kernel with which it reads, in cells; None: it has none.
        anew: see `growing`.
    """
    features = pyramid(network.encoder.channels)
    fine_ones = {name: features[name] for name in ("f4", "f8")}
    asked, seen = (plane(layer.out_channels) for layer in (network.query.key, network.query.value))
    keys, values = network.memory.key.out_channels, network.memory.value.out_channels
    memory, new = (remembered(keys, values, False, positions) for positions in (MEMORY, CELLS))

    def encode(image: Tensor) -> tuple[Tensor, ...]:
        (f4, f8, _), key, value = network.encode(image)
        return key, value, f4, f8

    def memorise(image: Tensor, masks: Tensor) -> tuple[Tensor, ...]:
        made: tuple[Tensor, ...] = network.remember(image, used(masks))
        return made

    def read(key: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        kernel = None if sigma is None else Kernel(sigma, key.shape[-1])
        return unflatten_hw(attend(flatten_hw(key), keys, values, network.top_k, "dot", kernel), key)

    def decode(readout: Tensor, value: Tensor, f4: Tensor, f8: Tensor) -> Tensor:
        return probabilities(network.decode(query(fine(f4, f8), value, value), readout))

    masked = {"image": picture(), "masks": probs()}
    found = {"readout": own(values), "value": seen, **fine_ones}
    parts = (
        Graph("encode", encode, {"image": picture()}, {"key": asked, "value": seen, **fine_ones}, ENCODE),
        Graph("memorise", memorise, masked, new, MEMORISE),
        Graph("read", read, {"key": asked, **memory}, {"readout": own(values)}, READ),
        Graph("decode", decode, found, distribution(), DECODE),
    )
    return Graphs(parts, growing(network.memory_every, network.memory_previous, network.memory_bound, anew), PRODUCT)
