import pytest
import torch

from autospine.trainers.dice import class_counts, pooled_dice


def logits_of(labels, classes):
    return torch.nn.functional.one_hot(labels, classes).movedim(-1, 1).float()


def test_counts_are_of_found_predicted_and_present_voxels():
    truth = torch.tensor([[0, 1, 1, 2, -1, -1]], dtype=torch.int8)
    predicted = torch.tensor([[0, 1, 2, 2, 1, 2]])
    counts = class_counts(logits_of(predicted, 4), truth)
    assert counts.tolist() == [[1, 1, 1, 0], [1, 1, 2, 0], [1, 2, 1, 0]]


def test_dice_pools_batches_and_leaves_absent_classes_out():
    counts = torch.tensor([[9, 1, 0, 0], [9, 2, 0, 5], [9, 2, 4, 0]])
    assert pooled_dice(counts) == pytest.approx((0.5 + 0) / 2)
    assert pooled_dice(torch.zeros(3, 4)) == 0
