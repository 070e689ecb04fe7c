"""Data sets on disk, training clips and evaluation sequences."""

from voslab.data.clips.augmentation import Augmentation, ClipTransform, build_transform
from voslab.data.clips.dataset import ClipDataset, ClipSettings, ClipSource, RawClip, VideoClips
from voslab.data.clips.item import ClipItem, collate
from voslab.data.clips.sampling import Curriculum, choose_objects, sample_frames
from voslab.data.samplers import EvaluationSampler, TrainSampler
from voslab.data.video_sequence import EvaluationItem, VideoSequence

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
    "TrainSampler",
    "VideoClips",
    "VideoSequence",
    "build_transform",
    "choose_objects",
    "collate",
    "sample_frames",
]
