"""Data sets on disk, and the training clips and evaluation sequences made of them."""

from voslab.data.clips.augmentation import Augmentation, ClipTransform, build
from voslab.data.clips.dataset import ClipDataset, ClipItem, ClipSettings, ClipSource, RawClip, VideoClips, collate
from voslab.data.clips.sampling import Curriculum, choose_objects, sample_frames
from voslab.data.samplers import EvaluationSampler, TrainSampler
from voslab.data.video_sequence import EvaluationItem, Sequence

__all__ = [
    "Augmentation",
    "ClipDataset",
    "ClipItem",
    "ClipSettings",
    "ClipSource",
    "ClipTransform",
    "Curriculum",
    "EvaluationItem",
    "EvaluationSampler",
    "RawClip",
    "Sequence",
    "TrainSampler",
    "VideoClips",
    "build",
    "choose_objects",
    "collate",
    "sample_frames",
]
