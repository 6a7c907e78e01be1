from __future__ import annotations

import pytest
import torch
from torch import nn

from autospine.networks.attention import AttentionGate, ChannelAttention, skip_attention


def mlp(attention, pooled):
    """The attention's two layers as matrices, of pooled values (b, channels)."""
    hidden = pooled @ attention.squeeze.weight.flatten(1).T + attention.squeeze.bias
    return hidden.clamp(min=0) @ attention.excite.weight.flatten(1).T + attention.excite.bias


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 1), (3, 4, 5)])
@pytest.mark.parametrize("mode", ["cbam", "se"])
def test_channels_are_weighed_by_their_pooled_values(mode, size):
    attention = ChannelAttention(8, len(size), mode)
    x = torch.randn(2, 8, *size)
    flat = x.flatten(2)
    weights = mlp(attention, flat.mean(2))
    if mode == "cbam":
        weights = weights + mlp(attention, flat.amax(2))
    expected = (flat * weights.sigmoid()[..., None]).reshape(x.shape)
    torch.testing.assert_close(attention(x), expected)


@pytest.mark.parametrize(("channels", "inside"), [(8, 4), (64, 4), (320, 20)])
def test_a_sixteenth_of_the_channels_are_inside_but_four_at_least(channels, inside):
    for mode in ("cbam", "se"):
        attention = ChannelAttention(channels, 3, mode)
        count = sum(parameter.numel() for parameter in attention.parameters())
        assert count == 2 * channels * inside + channels + inside


def test_both_poolings_share_their_weights():
    shapes = [
        {name: tuple(p.shape) for name, p in ChannelAttention(8, 2, mode).named_parameters()}
        for mode in ("cbam", "se")
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (3, 4, 5)])
def test_gate_follows_its_formula(size):
    gate = AttentionGate(6, 4, len(size))
    x, g = torch.randn(2, 6, *size), torch.randn(2, 4, *size)

    def per_voxel(layer, values):
        bias = 0 if layer.bias is None else layer.bias
        return values.movedim(1, -1) @ layer.weight.flatten(1).T + bias

    inside = (per_voxel(gate.of_skip, x) + per_voxel(gate.of_gating, g)).clamp(min=0)
    alpha = inside @ gate.weight.weight.flatten(1).T + gate.weight.bias
    torch.testing.assert_close(gate(x, g), x * alpha.sigmoid().movedim(-1, 1))


def test_a_gate_can_close_where_the_coarser_stage_says_so():
    gate = AttentionGate(2, 1, 2)
    with torch.no_grad():
        for parameter in gate.parameters():
            parameter.zero_()
        gate.of_gating.weight.fill_(1)
        gate.weight.weight.fill_(-100)
    gating = torch.zeros(1, 1, 4, 4)
    gating[..., 2:] = 1
    passed = gate(torch.ones(1, 2, 4, 4), gating)
    assert (passed[..., :2] == 0.5).all()
    assert (passed[..., 2:] < 1e-6).all()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_gradients_reach_every_weight(dimensions):
    torch.manual_seed(0)
    x = torch.randn(16, 16, *(5, 6, 7)[:dimensions])
    modules = [ChannelAttention(16, dimensions, mode) for mode in ("cbam", "se")]
    for module, arguments in [*((m, (x,)) for m in modules), (AttentionGate(16, 16, dimensions), (x, x))]:
        module(*arguments).square().sum().backward()
        for parameter in module.parameters():
            assert torch.isfinite(parameter.grad).all()
            assert parameter.grad.abs().max() > 0


@pytest.mark.parametrize("kind", ["cbam", "se"])
def test_skips_have_the_attention_asked_for(kind):
    attention = skip_attention(kind, 32, 3)
    assert isinstance(attention, ChannelAttention)
    assert attention.mode == kind
    assert attention.squeeze.weight.shape == (4, 32, 1, 1, 1)


def test_skips_without_attention_stay_as_they_are():
    attention = skip_attention("none", 32, 3)
    x = torch.randn(1, 32, 2, 3, 4)
    assert isinstance(attention, nn.Identity)
    assert attention(x) is x


def test_attention_stays_in_the_precision_of_autocast():
    x = torch.randn(1, 4, 6, 6).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert ChannelAttention(4, 2)(x).dtype == torch.bfloat16
        assert AttentionGate(4, 4, 2)(x, x).dtype == torch.bfloat16
