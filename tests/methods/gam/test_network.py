from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from voslab.core import ConfigError, Frame, Masks
from voslab.methods import registry
from voslab.methods.gam.attention import CAM
from voslab.methods.gam.embedding import MEM
from voslab.methods.gam.network import GAM

SMALL: dict[str, Any] = {
    "backbone": "resnet18",
    "norm": "group",
    "width": 8,
    "key_channels": 8,
    "value_channels": 16,
    "decoder_width": 8,
    "mem_channels": 16,
}
SWITCHES: list[dict[str, Any]] = [
    {},
    {"cam": False, "mem": False},
    {"cam": False},
    {"mem": False},
    {"merge": "sum"},
    {"merge": "sum", "cam": False},
    {"cam_norm": "none"},
    {"history": 1},
    {"history": 2, "coordinates": False},
    {"key_norm": "mean", "query_norm": "scale"},
    {"key_norm": "none", "query_norm": "none"},
    {"fuser": "light"},
    {"update_every": 3},
]


def gam(**switches: Any) -> GAM:
    torch.manual_seed(0)
    return GAM(**{**SMALL, **switches})


def frames(count: int, height: int = 32, width: int = 48) -> list[Frame]:
    rng = torch.Generator().manual_seed(1)
    return [Frame(i, torch.rand(1, 3, height, width, generator=rng)) for i in range(count)]


def stripes(objects: int, height: int = 32, width: int = 48) -> Masks:
    ids = torch.arange(width).view(1, 1, 1, width) // (width // (objects + 1))
    probs = (ids == torch.arange(1, objects + 1).view(1, -1, 1, 1)).float().expand(1, objects, height, width)
    return Masks(probs, torch.ones(1, objects, dtype=torch.bool))


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_every_switch_trains_all_that_it_builds(switches: dict[str, Any]) -> None:
    network = gam(**switches)
    state = network.begin(frames(1)[0], stripes(2))
    for frame in frames(3)[1:]:
        logits, state = network.step(frame, state)
    F.cross_entropy(logits, torch.randint(0, 3, (1, 32, 48))).backward()
    for name, parameter in network.named_parameters():
        # A norm makes what a bias adds to all positions, or to all channels, vanish.
        if name != "project.key.bias":
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_disabled_modules_are_not_built() -> None:
    names = {name.split(".")[0] for name, _ in gam(cam=False, mem=False).named_parameters()}
    assert names == {"encoder", "project", "mask_encoder", "fuser", "decoder"}
    light, full = (sum(p.numel() for p in gam(fuser=fuser).fuser.parameters()) for fuser in ("light", "full"))
    assert light < full / 4


@torch.no_grad()
def test_channel_attention_equals_the_equation_of_the_paper() -> None:
    for norm in ("mean", "none"):
        cam = CAM(norm)  # type: ignore[arg-type]
        f = torch.randn(2, 3, 4, 5)
        columns = f[1].flatten(1)
        energy = columns @ columns.T / (20 if norm == "mean" else 1)
        attention = energy.exp() / energy.exp().sum(0, keepdim=True)
        expected = columns.T + F.softplus(cam.alpha) * (columns.T @ attention)
        assert torch.allclose(cam(f)[1].flatten(1).T, expected, atol=1e-5)


@torch.no_grad()
def test_channel_attention_does_not_sharpen_with_resolution() -> None:
    f = torch.randn(1, 6, 3, 4)
    large = f.repeat(1, 1, 4, 4)
    assert torch.allclose(CAM()(large), CAM()(f).repeat(1, 1, 4, 4), atol=1e-5)
    assert not torch.allclose(CAM("none")(large), CAM("none")(f).repeat(1, 1, 4, 4), atol=1e-3)


@torch.no_grad()
def test_channel_attention_is_finite_in_half_precision() -> None:
    f = 300 * torch.randn(1, 8, 30, 54)
    assert torch.isfinite(CAM("none")(f.half())).all()


@pytest.mark.parametrize(("history", "coordinates"), [(3, True), (2, True), (1, False)])
@torch.no_grad()
def test_mask_embedding_is_four_convolutions_over_masks_and_coordinates(history: int, coordinates: bool) -> None:
    mem = MEM(history, coordinates, 16)
    past = torch.rand(2, history, 32, 48)
    row = torch.linspace(-1, 1, 32).view(1, 1, 32, 1).expand(2, 1, 32, 48)
    column = torch.linspace(-1, 1, 48).expand(2, 1, 32, 48)
    inputs = [torch.stack([1 - past, past], 2).flatten(1, 2)]
    inputs += [row, column, (row**2 + column**2).sqrt()] if coordinates else []
    x = torch.cat(inputs, 1)
    x = mem.conv4(mem.conv3(mem.conv2(mem.conv1(x).relu()).relu()).relu())
    assert torch.allclose(mem(past), x, atol=1e-5)


@torch.no_grad()
def test_frames_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network = gam()
    seen: list[torch.Size] = []
    network.encoder.register_forward_hook(lambda _, inputs, out: seen.append(inputs[0].shape))
    state = network.begin(frames(1)[0], stripes(3))
    for frame in frames(4)[1:]:
        _, state = network.step(frame, state)
    assert seen == [torch.Size((1, 3, 32, 48))] * 4


@torch.no_grad()
def test_memory_is_constant_and_the_rest_linear_in_pixels() -> None:
    network = gam()
    sizes = {}
    for height, width in ((32, 48), (64, 96)):
        state = network.begin(frames(1)[0] if height == 32 else frames(1, 64, 96)[0], stripes(2, height, width))
        for frame in frames(9, height, width)[1:]:
            _, state = network.step(frame, state)
            key = (height, frame.index > 3)
            sizes.setdefault(key, set()).add((state.memory.nbytes(), state.nbytes() - state.memory.nbytes()))
    [(memory, rest)] = sizes[32, True]
    assert memory == 2 * 8 * 16 * 4
    [(same, four_times)] = sizes[64, True]
    assert same == memory
    assert four_times == pytest.approx(4 * rest, rel=0.01)


@torch.no_grad()
def test_past_masks_are_stored_newest_first() -> None:
    network, given = gam(), stripes(1)
    state = network.begin(frames(1)[0], given)
    assert torch.equal(state.older, given.probs.unsqueeze(2).expand(-1, -1, 2, -1, -1))
    seen = [given.probs]
    for frame in frames(4)[1:]:
        _, state = network.step(frame, state)
        seen.append(state.masks.probs)
    assert torch.equal(state.older, torch.stack([seen[-2], seen[-3]], 2))


@torch.no_grad()
def test_new_object_starts_with_copies_of_its_mask() -> None:
    network = gam(update_every=4)
    first, second, third = frames(3)
    _, state = network.step(second, network.begin(first, stripes(1)))
    before = state.memory.context.clone()
    state = network.add(second, stripes(2), state)
    assert torch.equal(state.older[:, 1:], stripes(2).probs.unsqueeze(2).expand(-1, -1, 2, -1, -1))
    _, state = network.step(third, state)
    assert state.memory.frames == [1, 1, 1], "frame 1 is memorised for the new objects alone"
    assert torch.equal(state.memory.context[:, :1], before)


@torch.no_grad()
def test_corrected_frame_is_memorised_whatever_the_interval() -> None:
    network = gam(update_every=4)
    first, second, third = frames(3)
    _, state = network.step(second, network.begin(first, stripes(2)))
    nothing = Masks(torch.zeros(1, 0, 32, 48), torch.ones(1, 0, dtype=torch.bool))
    _, state = network.step(third, network.add(second, nothing, state, known=stripes(2)))
    assert state.memory.frames == [2, 2]


@pytest.mark.parametrize("switches", [{}, {"cam": False, "mem": False}], ids=str)
@torch.no_grad()
def test_chunks_of_objects_change_nothing(switches: dict[str, Any]) -> None:
    outputs = []
    for chunk in (1, 2, 5):
        network = gam(object_chunk=chunk, **switches)
        state = network.begin(frames(1)[0], stripes(5))
        for frame in frames(3)[1:]:
            logits, state = network.step(frame, state)
        outputs.append(logits)
    assert torch.allclose(outputs[0], outputs[2], atol=1e-4)
    assert torch.allclose(outputs[1], outputs[2], atol=1e-4)


@torch.no_grad()
def test_autocast_is_close_to_full_precision() -> None:
    outputs = []
    for enabled in (False, True):
        network = gam()
        state = network.begin(frames(1)[0], stripes(2))
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            for frame in frames(4)[1:]:
                logits, state = network.step(frame, state)
        assert state.memory.context.dtype == torch.float32
        outputs.append(logits.softmax(1))
    assert (outputs[0] - outputs[1]).abs().max() < 0.05


@pytest.mark.parametrize(
    "wrong", [{"merge": "add"}, {"fuser": "heavy"}, {"key_norm": "l2"}, {"update_every": 0}, {"history": 0}], ids=str
)
def test_invalid_option_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        registry.build("gam", {**SMALL, **wrong})


@torch.no_grad()
def test_memory_is_the_mean_over_frames_of_keys_times_values() -> None:
    """Eq. 1 to 3: G is the mean of K^T V over all earlier frames, each with its own masks; D is the query times G."""
    network = gam().eval()
    first, *later = frames(4)
    state = network.begin(first, stripes(2))
    products = []
    for frame in later:
        encoded = network.encode(state.image)
        key = encoded.key.flatten(2).softmax(2)
        _, value = network.encode_memory(state.image, encoded.features.f16, encoded.key, state.masks)
        products.append(key.unsqueeze(1) @ value)
        _, state = network.step(frame, state)
    mean = torch.stack(products).mean(0)
    assert torch.allclose(state.memory.context, mean, atol=1e-6)
    encoded = network.encode(later[-1].image)
    query = encoded.key.flatten(2).softmax(1)
    expected = (mean.transpose(2, 3) @ query.unsqueeze(1)).unflatten(3, encoded.key.shape[2:])
    assert torch.allclose(network.read(encoded, state.memory), expected, atol=1e-6)
