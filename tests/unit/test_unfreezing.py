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
    for epoch in range(12):
        thaw(network, epoch / 12, share=0.5)
        seen.append(sum(learning(network)))
        assert learning(network) == sorted(learning(network))
    assert seen == [1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 4, 4]


@pytest.mark.parametrize("epochs", [1, 2, 5, 100])
def test_every_layer_has_its_turn_however_short_the_training_is(epochs):
    network = Stack()
    for epoch in range(epochs):
        thaw(network, epoch / epochs, share=0.5)
    assert sum(learning(network)) == (4 if epochs > 1 else 1)


def test_a_resumed_training_thaws_as_much():
    network = Stack()
    thaw(network, 5 / 12, share=0.5)
    assert learning(network) == [False, True, True, True]


def test_without_it_nothing_is_frozen():
    network = nn.Conv2d(1, 1, 1)
    thaw(network, 0.0, share=0.0)
    assert all(p.requires_grad for p in network.parameters())


def test_a_network_without_layers_is_refused():
    with pytest.raises(UsageError, match="layer by layer"):
        thaw(nn.Sequential(nn.Linear(1, 1)), 0.0, share=0.5)


def test_frozen_layers_do_not_move():
    network = Stack()
    thaw(network, 0.0, share=0.5)
    before = [layer.weight.clone() for layer in network.layers]
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.1)
    network.head(network.layers[2](torch.ones(1, 2))).sum().backward()
    optimiser.step()
    assert all(torch.equal(a, layer.weight) for a, layer in zip(before, network.layers, strict=True))
