from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from tests.video.clips import encode, moving_square
from voslab.video.h264.nal import HeaderReader, Slice, has_b_vop, nal_units
from voslab.video.h264.parameter_sets import Bits

IMAGES = moving_square(20)


def headers(path: Path) -> list[tuple[Slice, ...]]:
    with av.open(str(path)) as container:
        reader = HeaderReader(container.streams.video[0].codec_context.extradata or b"")
        return [found for packet in container.demux(video=0) if (found := reader.slices(bytes(packet)))]


def types_in_decoding_order(path: Path) -> list[str]:
    with av.open(str(path)) as container:
        times = [packet.pts for packet in container.demux(video=0) if packet.size]
    with av.open(str(path)) as container:
        kinds = {frame.pts: av.video.frame.PictureType(frame.pict_type).name for frame in container.decode(video=0)}
    return [kinds[time] for time in times]


def test_bits_and_numbers() -> None:
    bits = Bits(bytes([0b10100110, 0b01000010, 0b10000000]))
    assert [bits.unsigned() for _ in range(4)] == [0, 1, 2, 3]
    assert Bits(bytes([0b00100110])).signed() == 2
    assert Bits(bytes([0b00101000])).signed() == -2
    assert (bits(4), bits(0)) == (0b0010, 0)
    with pytest.raises(ValueError, match="ends too early"):
        bits(64)
    with pytest.raises(ValueError, match="impossible"):
        Bits(bytes(8)).unsigned()


def test_units_by_length_and_by_start_code() -> None:
    parts = [b"\x67abc", b"\x68d", b"\x65" + bytes(range(5, 40))]
    by_length = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    assert list(nal_units(by_length, 4)) == parts
    assert list(nal_units(b"\0" + b"".join(b"\0\0\1" + part for part in parts), 0)) == parts
    assert list(nal_units(b"", 4)) == list(nal_units(b"", 0)) == []


SETTINGS = {
    "plain": "bframes=0",
    "pyramid": "ref=4:b-pyramid=normal:bframes=5:b-adapt=0",
    "strict": "ref=2:b-pyramid=strict:bframes=5:b-adapt=0",
    "open": "b-pyramid=none:open-gop=1:keyint=8:ref=3",
    "weights": "b-pyramid=none:weightp=2:ref=3:bframes=2",
    "slices": "b-pyramid=none:slices=3",
    "baseline": "cabac=0:8x8dct=0:bframes=0:weightp=0",
}


@pytest.mark.parametrize("suffix", ["mp4", "h264", "ts", "mkv"])
def test_slice_types_match_the_decoder_in_every_container(tmp_path: Path, suffix: str) -> None:
    path = encode(tmp_path / f"a.{suffix}", IMAGES, **{"x264-params": SETTINGS["pyramid"]})
    reference = encode(tmp_path / "b.mp4", IMAGES, **{"x264-params": SETTINGS["pyramid"]})
    assert [found[0].type for found in headers(path)] == types_in_decoding_order(reference)


@pytest.mark.parametrize("name", SETTINGS)
def test_slice_headers_match_the_encoder_settings(tmp_path: Path, name: str) -> None:
    path = encode(tmp_path / "a.mp4", IMAGES, **{"x264-params": SETTINGS[name]})
    found = headers(path)
    assert [slices[0].type for slices in found] == types_in_decoding_order(path)
    assert {len(slices) for slices in found} == {3 if name == "slices" else 1}
    assert found[0][0].idr
    assert all(slices[0].reference for slices in found if slices[0].type != "B")
    references = {slices[0].reference for slices in found if slices[0].type == "B"}
    assert (True in references) == (name in {"pyramid", "strict"})
    numbers = [slices[0].frame_number for slices in found]
    for before, now, number, last in zip(found, found[1:], numbers[1:], numbers, strict=False):
        if not now[0].idr:
            assert number == (last + before[0].reference) % now[0].max_frame_number
    assert all(1 <= s[0].active[0] <= 16 for s in found if s[0].type != "I")


def test_corrupted_headers_raise_only_value_errors(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    path = encode(tmp_path / "a.mp4", IMAGES)
    with av.open(str(path)) as container:
        extradata = container.streams.video[0].codec_context.extradata
        packet = next(bytes(p) for p in container.demux(video=0))
    refused = 0
    for _ in range(300):
        content, extra = bytearray(packet), bytearray(extradata)
        for target in (content, extra):
            for place in random.integers(0, min(len(target), 60), 3):
                target[place] = random.integers(256)
        try:
            HeaderReader(bytes(extra)).slices(bytes(content))
        except ValueError:
            refused += 1
    assert refused


def test_b_vops_of_mpeg4_are_detected(tmp_path: Path) -> None:
    for count in (0, 2):
        path = encode(tmp_path / f"{count}.avi", IMAGES, "mpeg4", bf=str(count))
        with av.open(str(path)) as container:
            kinds = [has_b_vop(bytes(packet)) for packet in container.demux(video=0) if packet.size]
        assert any(kinds) == bool(count)
