"""Runs a segmenter over a video: working size, padding, ids, progress, sinks. The only inference path there is.

from voslab.engine import Settings, run

for prediction in run(segmenter, pictures, {0: first_mask}, Settings(size=480)):
    show(prediction.image, prediction.ids)
"""

from voslab.engine.padding import Pads, crop, pad
from voslab.engine.runner import Prediction, Throughput, run
from voslab.engine.settings import Settings
from voslab.engine.sinks import OverlaySink, Sink, consume, mask_sink

__all__ = [
    "OverlaySink",
    "Pads",
    "Prediction",
    "Settings",
    "Sink",
    "Throughput",
    "consume",
    "crop",
    "mask_sink",
    "pad",
    "run",
]
