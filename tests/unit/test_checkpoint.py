import json

import pytest
import torch

from autospine.core.errors import DocumentError, UsageError
from autospine.core.plan import Schedule
from autospine.io.documents import from_json, to_json
from autospine.trainers.checkpoint import EpochRecord, TrainingState, load_checkpoint, save_checkpoint
from autospine.trainers.optimisation import make_optimiser
from autospine.weights import load_tensors, save_tensors, set_weights

RECORD = EpochRecord(0, 0.01, 1.0, 1.5, 0.25, 0.25, 1, 2.0)
WITHOUT_VALIDATION = EpochRecord(1, 0.01, 1.0, None, 0.0, 0.2, 0, 2.0)


def trained(schedule, steps=3, *, fused=False):
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 2)
    optimiser = make_optimiser(network, schedule, fused=fused)
    for _ in range(steps):
        step(network, optimiser)
    return network, optimiser


def step(network, optimiser):
    optimiser.zero_grad()
    network(torch.ones(1, 3)).square().sum().backward()
    optimiser.step()


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_restored_training_goes_on_bit_for_bit(tmp_path, name, fused):
    schedule = Schedule(optimiser=name)
    network, optimiser = trained(schedule, fused=fused)
    state = TrainingState("task", (RECORD,), {"scale": 1024.0})
    save_checkpoint(tmp_path / "latest.safetensors", network, optimiser, state)
    other, other_optimiser = trained(schedule, steps=0, fused=fused)
    assert load_checkpoint(tmp_path / "latest.safetensors", other, other_optimiser, "task") == state
    assert state.next_epoch == 1
    for _ in range(2):
        step(network, optimiser)
        step(other, other_optimiser)
    assert torch.equal(network.weight, other.weight)


def test_a_truncated_checkpoint_is_refused(tmp_path):
    network, optimiser = trained(Schedule())
    path = tmp_path / "latest.safetensors"
    save_checkpoint(path, network, optimiser, TrainingState("task"))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DocumentError, match=r"latest\.safetensors.*cannot be read"):
        load_checkpoint(path, network, optimiser, "task")


def test_a_checkpoint_of_another_task_is_refused_before_its_weights_are_used(tmp_path):
    network, optimiser = trained(Schedule())
    path = tmp_path / "latest.safetensors"
    save_checkpoint(path, network, optimiser, TrainingState("task"))
    other, other_optimiser = trained(Schedule(), steps=0)
    before = other.weight.clone()
    with pytest.raises(UsageError, match="another plan"):
        load_checkpoint(path, other, other_optimiser, "another task")
    assert torch.equal(other.weight, before)


def test_loss_scaling_goes_on_where_it_stopped(tmp_path):
    network, optimiser = trained(Schedule())
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    state = TrainingState("task", (RECORD, WITHOUT_VALIDATION), scaler.state_dict())
    save_checkpoint(tmp_path / "latest.safetensors", network, optimiser, state)
    loaded = load_checkpoint(tmp_path / "latest.safetensors", network, optimiser, "task")
    assert loaded == state
    restored = torch.amp.GradScaler("cpu")
    restored.load_state_dict(dict(loaded.scaler))
    restored.scale(network(torch.ones(1, 3)).sum()).backward()
    restored.step(optimiser)
    restored.update()
    assert restored.get_scale() == 64.0


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_tensors(path, torch.nn.Linear(3, 2).state_dict())
    with pytest.raises(DocumentError, match="do not fit"):
        set_weights(torch.nn.Linear(4, 2), load_tensors(path)[0], path)


def test_the_header_survives(tmp_path):
    save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(2)}, {"task": "hash"})
    tensors, header = load_tensors(tmp_path / "x.safetensors")
    assert header == {"task": "hash"}
    assert tensors["a"].tolist() == [0, 0]


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False)])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_training_goes_on_with_the_other_kind_of_optimiser(tmp_path, name, before, after):
    """As on another device; of layers that did not learn yet, a checkpoint may hold nothing."""
    schedule = Schedule(optimiser=name)
    network, optimiser = trained(schedule, steps=0, fused=before)
    network.bias.requires_grad_(False)
    step(network, optimiser)
    save_checkpoint(tmp_path / "latest.safetensors", network, optimiser, TrainingState("task"))
    other, other_optimiser = trained(schedule, steps=0, fused=after)
    load_checkpoint(tmp_path / "latest.safetensors", other, other_optimiser, "task")
    network.bias.requires_grad_(True)
    for _ in range(2):
        step(network, optimiser)
        step(other, other_optimiser)
    torch.testing.assert_close(other.weight, network.weight)
    torch.testing.assert_close(other.bias, network.bias)


def test_older_checkpoints_say_nothing_about_waiting(tmp_path):
    state = TrainingState("task", (RECORD,))
    document = json.loads(to_json(state))
    del document["history"][0]["waiting"]
    assert from_json(TrainingState, json.dumps(document), tmp_path) == state
