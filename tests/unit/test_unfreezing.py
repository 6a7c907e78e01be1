import pytest
import torch
from torch import nn

from autospine.core.errors import UsageError
from autospine.trainers.unfreezing import thaw


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
        self.head = nn.Linear(2, 1)


def learning(network):
    return [layer.weight.requires_grad for layer in (*network.layers, network.head)]


def test_layers_thaw_from_the_last_to_the_first():
    network, seen = Stack(), []
    for epoch in range(8):
        thaw(network, epoch, every=2)
        seen.append(sum(learning(network)))
        assert learning(network) == sorted(learning(network))
    assert seen == [1, 1, 2, 2, 3, 3, 4, 4]


def test_a_resumed_training_thaws_as_much():
    network = Stack()
    thaw(network, 5, every=2)
    assert learning(network) == [False, True, True, True]


def test_without_it_nothing_is_frozen():
    network = nn.Conv2d(1, 1, 1)
    thaw(network, 0, every=0)
    assert all(p.requires_grad for p in network.parameters())


def test_a_network_without_layers_is_refused():
    with pytest.raises(UsageError, match="layer by layer"):
        thaw(nn.Sequential(nn.Linear(1, 1)), 0, every=1)


def test_frozen_layers_do_not_move():
    network = Stack()
    thaw(network, 0, every=1)
    before = [layer.weight.clone() for layer in network.layers]
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.1)
    network.head(network.layers[2](torch.ones(1, 2))).sum().backward()
    optimiser.step()
    assert all(torch.equal(a, layer.weight) for a, layer in zip(before, network.layers, strict=True))
