"""Runs a segmenter over a video: working size, padding, ids, progress, sinks. It is the only inference path.

from voslab.engine import Settings, run

for prediction in run(segmenter, frames, {0: first_mask}, Settings(size=480)):
    show(prediction.image, prediction.ids)
"""

from typing import TYPE_CHECKING

from voslab.lazy import lazy_exports

if TYPE_CHECKING:
    from voslab.engine.given_masks import MaskScope as MaskScope
    from voslab.engine.given_masks import find_mask_scope as find_mask_scope
    from voslab.engine.padding import Pads as Pads
    from voslab.engine.padding import crop as crop
    from voslab.engine.padding import pad as pad
    from voslab.engine.prediction import Prediction as Prediction
    from voslab.engine.prediction import Throughput as Throughput
    from voslab.engine.runner import run as run
    from voslab.engine.settings import Settings as Settings
    from voslab.engine.sinks import OverlaySink as OverlaySink
    from voslab.engine.sinks import Sink as Sink
    from voslab.engine.sinks import consume as consume
    from voslab.engine.sinks import mask_sink as mask_sink

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "given_masks": ["MaskScope", "find_mask_scope"],
        "padding": ["Pads", "crop", "pad"],
        "prediction": ["Prediction", "Throughput"],
        "runner": ["run"],
        "settings": ["Settings"],
        "sinks": ["OverlaySink", "Sink", "consume", "mask_sink"],
    },
)
