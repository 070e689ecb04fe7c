"""Cutie (Cheng et al. 2024): XMem's pixel memory, an object memory, and an object transformer between them.

Shapes: B clips, O objects, N = B O, C channels. Keys do not depend on masks, so the objects of a bucket share one
affinity; see `BucketMemory`.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from voslab.core import Frame, KeyInputs, Keys, Masks
from voslab.methods.cutie.flip import average_with_mirror, masks_with_mirror, with_mirror
from voslab.methods.cutie.memory import BucketMemory
from voslab.methods.cutie.parts import CutieParts
from voslab.methods.cutie.state import CutieState, EncodedFrame
from voslab.nn.aggregation import aggregate_masks, aggregate_product, object_probabilities
from voslab.nn.blocks import flatten_hw
from voslab.nn.decoders import upsample
from voslab.nn.key_projections import memory_key, project


class Cutie(CutieParts):
    """Cutie as a `KeyMatching` segmenter; see `CutieParts` for its parameters."""

    def begin(self, frame: Frame, masks: Masks) -> CutieState:
        """See `Segmenter.begin`."""
        image, masks = self._image(frame), self._masks(masks)
        batch, objects, rows, columns = masks.probs.shape
        policy = replace(self.policy, enabled=False, bound=None) if self.training else self.policy
        memory = BucketMemory.empty(batch, policy).extend(objects)
        sensory = image.new_zeros(batch, objects, self.sensory_channels, rows // self.stride, columns // self.stride)
        summaries = torch.zeros(batch, objects, *self._summary_shape(), device=image.device)
        return CutieState(memory, summaries, image, None, aggregate_masks(masks), sensory)

    def step(self, frame: Frame, state: CutieState) -> tuple[Tensor, CutieState]:
        """See `Segmenter.step`."""
        index, keys, image = state.index + 1, state.keys, self._image(frame)
        if not state.masks.probs.shape[1]:
            logits = aggregate_product(state.masks.probs, state.masks.slot_mask)
            return self._averaged(logits)[0], replace(state, image=image, index=index, encoded=None)
        state = self.memorise(state)
        query = self.encode(image, keys)
        readout, memory = self.read(query, state.memory)
        readout, levels = self.transform(query, readout, state)
        auxiliary = torch.cat([self.sensory_log_odds(query, state.sensory), levels], 2) if self.training else None
        log_odds, sensory = self.decode(query, readout, state.sensory, self._updates(index, state.last))
        logits, probs = self._averaged(upsample(aggregate_product(log_odds, state.masks.slot_mask), 4))
        key = memory_key(self.key, query.key_input, query.key, keys)
        encoded = EncodedFrame(key, query.shrinkage, query.selection, query.key_input, query.pixel)
        masks = state.masks.with_probs(probs)
        made = CutieState(memory, state.objects, image, encoded, masks, sensory, index, state.last, state.deep)
        return logits, replace(made, keys=keys, auxiliary=auxiliary)

    def add(self, frame: Frame, masks: Masks, state: CutieState, known: Masks | None = None) -> CutieState:
        """See `Segmenter.add`. The memories of a new object begin with this frame."""
        objects, masks = masks.probs.shape[1], self._masks(masks)
        known = state.masks if known is None else self._masks(known)
        summaries, sensory = (
            torch.cat([x, x.new_zeros(len(x), objects, *x.shape[2:])], 1) for x in (state.objects, state.sensory)
        )
        given = known is not state.masks
        state = replace(state, memory=state.memory.extend(objects), masks=aggregate_masks(known.append(masks)))
        return replace(state, objects=summaries, sensory=sensory, last=None, given=given)

    def key_layers(self) -> tuple[nn.Conv2d, ...]:
        """See `KeyMatching.key_layers`: one projection for both."""
        return (self.key,)

    def compare(self, state: CutieState) -> tuple[KeyInputs, CutieState]:
        """See `KeyMatching.compare`. The memory input is the frame itself, for all objects."""
        encoded = state.encoded or self._encode_frame(state)
        inputs, shrinkage = encoded.key_input, encoded.shrinkage.unsqueeze(1)
        made = KeyInputs(inputs, inputs.unsqueeze(1), state.masks, state.keys, encoded.selection, shrinkage)
        return made, replace(state, encoded=encoded)

    def with_keys(self, state: CutieState, keys: Keys) -> CutieState:
        """See `KeyMatching.with_keys`."""
        encoded = state.encoded
        if encoded is not None:
            encoded = encoded._replace(key=project(self.key, encoded.key_input, keys.stored))
        return replace(state, keys=keys, encoded=encoded)

    def memorise(self, state: CutieState) -> CutieState:
        """Write the newest frame to the memories, if it is due, with a deep update of the sensory memory."""
        if not (self.training or self._is_due(state.index, state.last)):
            return state
        deep = not (self.training and state.deep) or bool(torch.rand(()) < self.train_deep)
        encoded = state.encoded or self._encode_frame(state)
        values, sensory, summaries = self.value(state.image, encoded.pixel, state.masks, state.sensory, deep)
        key, shrinkage, selection = (flatten_hw(x) for x in encoded[:3])
        memory = state.memory.write(key, shrinkage, selection, values, state.given)
        state = replace(state, memory=memory, objects=state.objects + summaries, sensory=sensory)
        return replace(state, last=state.index, deep=True)

    def _is_due(self, index: int, last: int | None) -> bool:
        return last is None or index - last >= self.memory_every

    def _updates(self, index: int, last: int | None) -> bool:
        """Whether the decoder updates the sensory memory: on evenly spaced frames after the last memory frame."""
        count, passed = self.sensory_updates, index - (index if last is None else last)
        if self.training or count >= self.memory_every:
            return True
        return passed in (round(1 + i * (self.memory_every - 1) / max(1, count - 1)) for i in range(count))

    def _encode_frame(self, state: CutieState) -> EncodedFrame:
        query = self.encode(state.image)
        key = query.key if state.keys is None else project(self.key, query.key_input, state.keys.stored)
        return EncodedFrame(key, *query[2:])

    def _image(self, frame: Frame) -> Tensor:
        return with_mirror(frame.image) if self.flip else frame.image

    def _masks(self, masks: Masks) -> Masks:
        return masks_with_mirror(masks) if self.flip else masks

    def _averaged(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of the clips, and the probabilities of objects for the clips of the state."""
        if not self.flip:
            return logits, object_probabilities(logits)
        logits = average_with_mirror(logits)
        return logits, with_mirror(object_probabilities(logits))

    def _summary_shape(self) -> tuple[int, int]:
        return len(self.transformer.query), self.value_channels + 1
