from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from autospine.core.plan import Configuration, NetworkSpec, Normalisation, Schedule
from autospine.losses import (
    CentreLoss,
    CompletenessLoss,
    DeepSupervisionLoss,
    DiceCrossEntropyLoss,
    build,
    downsample,
    stage_weights,
)


def reference(logits, labels, smooth, batch_dice):
    """Dice loss and cross-entropy in numpy, from their definitions, one voxel set at a time."""
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    p = exponentials / exponentials.sum(1, keepdims=True)
    known = labels >= 0
    picked = [p[b, labels[b][i], *i] for b in range(len(p)) for i in zip(*np.nonzero(known[b]), strict=True)]
    cross_entropy = -np.mean(np.log(picked)) if picked else 0.0
    groups = [list(range(len(p)))] if batch_dice else [[b] for b in range(len(p))]
    scores = []
    for group in groups:
        for c in range(1, p.shape[1]):
            mask, predicted = known[group], p[group, c]
            truth = labels[group] == c
            overlap = predicted[truth & mask].sum()
            scores.append((2 * overlap + smooth) / (predicted[mask].sum() + truth.sum() + smooth))
    return 1 - np.mean(scores), cross_entropy


@pytest.fixture
def batch():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(3, 4, 5, 4, 3))
    labels = rng.integers(-1, 4, size=(3, 5, 4, 3)).astype(np.int8)
    return logits, labels


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("smooth", [1e-5, 1.0])
def test_terms_equal_their_definition(batch, batch_dice, smooth):
    logits, labels = batch
    loss = DiceCrossEntropyLoss(dice_smooth=smooth, batch_dice=batch_dice)
    dice, cross_entropy = loss.terms(torch.tensor(logits), torch.tensor(labels))
    assert (dice.item(), cross_entropy.item()) == pytest.approx(reference(logits, labels, smooth, batch_dice))


@pytest.mark.parametrize("batch_dice", [False, True])
def test_gradient_equals_finite_differences(batch_dice):
    from autospine.losses import _DiceCrossEntropy

    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(-1, 3, (2, 4, 3), dtype=torch.int8)
    weights = torch.tensor([0.5, 3.0, 1.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: _DiceCrossEntropy.apply(x, labels, 0.1, batch_dice, weights), logits
    )


def test_weights_scale_the_terms(batch):
    logits, labels = map(torch.tensor, batch)
    dice, cross_entropy = DiceCrossEntropyLoss().terms(logits, labels)
    weighted = DiceCrossEntropyLoss(dice_weight=0.25, cross_entropy_weight=3.0)(logits, labels)
    assert weighted.item() == pytest.approx(0.25 * dice.item() + 3 * cross_entropy.item())


def test_perfect_prediction_costs_nothing_and_a_wrong_one_does():
    labels = torch.randint(0, 3, (2, 6, 6), dtype=torch.int8)
    perfect = 50 * torch.nn.functional.one_hot(labels.long(), 3).movedim(-1, 1).float()
    dice, cross_entropy = DiceCrossEntropyLoss().terms(perfect, labels)
    assert dice.item() == pytest.approx(0, abs=1e-5)
    assert cross_entropy.item() == pytest.approx(0, abs=1e-6)
    dice, cross_entropy = DiceCrossEntropyLoss().terms(perfect.roll(1, 1), labels)
    assert dice.item() > 0.99
    assert cross_entropy.item() == pytest.approx(50, rel=1e-4)


def test_ignored_voxels_have_no_influence(batch):
    logits, labels = map(torch.tensor, batch)
    elsewhere = torch.where(labels.unsqueeze(1) < 0, 9 * torch.randn_like(logits), logits)
    elsewhere.requires_grad_()
    loss = DiceCrossEntropyLoss()(elsewhere, labels)
    assert loss.item() == pytest.approx(DiceCrossEntropyLoss()(logits, labels).item())
    loss.backward()
    assert elsewhere.grad.movedim(1, -1)[labels < 0].abs().max() == 0
    assert elsewhere.grad.movedim(1, -1)[labels >= 0].abs().min() > 0


@pytest.mark.parametrize("batch_dice", [False, True])
def test_wholly_ignored_patch_costs_nothing(batch_dice):
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = DiceCrossEntropyLoss(batch_dice=batch_dice)(logits, torch.full((2, 4, 4), -1, dtype=torch.int8))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert logits.grad.abs().max() == 0


def test_low_precision_logits_under_autocast_are_summed_in_float32():
    logits = torch.randn(1, 3, 40, 40)
    labels = torch.randint(0, 3, (1, 40, 40), dtype=torch.int8)
    half = logits.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = DiceCrossEntropyLoss()(half, labels)
    loss.backward()
    exact = DiceCrossEntropyLoss()(half.detach().float(), labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=1e-6)
    assert half.grad.dtype == torch.bfloat16


def test_descending_the_gradient_finds_the_labels():
    torch.manual_seed(0)
    labels = torch.randint(0, 4, (2, 5, 5), dtype=torch.int8)
    logits = torch.zeros(2, 4, 5, 5, requires_grad=True)
    optimiser = torch.optim.SGD([logits], lr=20)
    for _ in range(40):
        optimiser.zero_grad()
        DiceCrossEntropyLoss(batch_dice=True)(logits, labels).backward()
        optimiser.step()
    assert torch.equal(logits.argmax(1), labels.long())


@pytest.mark.parametrize(
    ("stages", "expected"), [(1, (1,)), (2, (1, 0)), (4, (4 / 7, 2 / 7, 1 / 7, 0)), (3, (2 / 3, 1 / 3, 0))]
)
def test_stage_weights_halve_and_spare_the_coarsest(stages, expected):
    assert stage_weights(stages) == pytest.approx(expected)


def test_downsampled_labels_are_the_nearest_ones():
    labels = torch.randint(0, 27, (2, 12, 8, 6)).to(torch.uint8)
    for shape in [(6, 4, 3), (12, 2, 3), (3, 8, 6), (4, 8, 2), (12, 8, 6)]:
        expected = torch.nn.functional.interpolate(labels.unsqueeze(1), shape, mode="nearest-exact")
        assert torch.equal(downsample(labels, shape), expected.squeeze(1))


def test_deep_supervision_is_the_weighted_sum():
    torch.manual_seed(0)
    labels = torch.randint(-1, 3, (2, 8, 8), dtype=torch.int8)
    stages = [torch.randn(2, 3, size, size, requires_grad=True) for size in (8, 4, 2)]
    loss = DiceCrossEntropyLoss()
    total = DeepSupervisionLoss(loss)(stages, labels)
    expected = 2 / 3 * loss(stages[0], labels) + 1 / 3 * loss(stages[1], labels[:, 1::2, 1::2])
    assert total.item() == pytest.approx(expected.item())
    total.backward()
    assert stages[1].grad.abs().max() > 0
    assert stages[2].grad is None


def test_loss_follows_the_configuration():
    network = NetworkSpec("plain_unet", (4, 8), ((3, 3),) * 2, ((1, 1), (2, 2)), (2, 2), (2,))
    schedule = Schedule(dice_weight=0.5, cross_entropy_weight=2.0, dice_smooth=1e-3)
    configuration = Configuration(
        name="2d",
        axes=(0, 1, 2),
        spacing=(None, 1.0, 1.0),
        patch=(8, 8),
        batch_size=2,
        median_shape=(1.0, 8.0, 8.0),
        network=network,
        crop="body",
        normalisation=(Normalisation("ct", -1000, 1000, 0, 1),),
        padding=(-1.0,),
        mirror_axes=(0, 1),
        batch_dice=True,
        schedule=schedule,
    )
    assert build(configuration).loss == DiceCrossEntropyLoss(0.5, 2.0, 1e-3, batch_dice=True)
    assert not build(replace(configuration, batch_dice=False)).loss.batch_dice


@pytest.fixture
def centre_targets():
    """Heat and vectors of two samples; nothing is known in a corner, and vectors only in a few voxels."""
    generator = torch.Generator().manual_seed(4)
    heat = torch.rand((2, 1, 6, 6, 6), generator=generator)
    vectors = torch.randn((2, 3, 6, 6, 6), generator=generator)
    heat[0, :, :2] = torch.nan
    vectors[:, :, :, 3:] = torch.nan
    return torch.cat([heat, vectors], dim=1)


def test_right_vectors_and_a_right_heat_cost_least(centre_targets):
    best = torch.cat([centre_targets[:, :1].logit(eps=1e-6), centre_targets[:, 1:]], dim=1).nan_to_num()
    least = CentreLoss()(best, centre_targets)
    for channel in range(4):
        worse = best.clone()
        worse[:, channel] += 0.5
        assert CentreLoss()(worse, centre_targets) > least


def test_where_nothing_is_known_outputs_do_not_matter(centre_targets):
    outputs = torch.randn((2, 4, 6, 6, 6), requires_grad=True)
    loss = CentreLoss()(outputs, centre_targets)
    loss.backward()
    assert loss.isfinite()
    assert torch.equal(outputs.grad == 0, centre_targets.isnan())


def test_vectors_are_judged_by_the_smooth_distance(centre_targets):
    outputs = torch.cat([centre_targets[:, :1].logit(eps=1e-6), centre_targets[:, 1:]], dim=1).nan_to_num()
    off = outputs.clone()
    off[:, 1] += 1.0  # one unit along one axis: 1 - beta / 2
    difference = CentreLoss()(off, centre_targets) - CentreLoss()(outputs, centre_targets)
    assert float(difference) == pytest.approx(0.9, abs=1e-5)


def test_a_patch_without_any_vertebra_has_a_finite_loss():
    targets = torch.cat([torch.zeros(1, 1, 4, 4, 4), torch.full((1, 3, 4, 4, 4), torch.nan)], dim=1)
    outputs = torch.randn((1, 4, 4, 4, 4), requires_grad=True)
    loss = CentreLoss()(outputs, targets)
    loss.backward()
    assert loss.isfinite()
    assert outputs.grad.isfinite().all()
    quiet = CentreLoss()(torch.full((1, 4, 4, 4, 4), -20.0), targets)
    assert float(quiet) == pytest.approx(0.0, abs=1e-6)


def test_centre_channels_are_weighed_beside_the_classes(centre_targets):
    labels = torch.zeros((2, 6, 6, 6), dtype=torch.int8)
    stages = [torch.randn((2, 7, 6, 6, 6)), torch.randn((2, 7, 3, 3, 3))]
    plain = DeepSupervisionLoss(DiceCrossEntropyLoss())([s[:, :3] for s in stages], labels)
    for weight in (0.0, 2.0):
        both = DeepSupervisionLoss(DiceCrossEntropyLoss(), weight)(stages, labels, centre_targets)
        extra = CentreLoss()(stages[0][:, 3:], centre_targets)
        torch.testing.assert_close(both, plain + weight * extra)


def test_class_weights_weigh_the_mean_cross_entropy(batch):
    logits, labels = map(torch.tensor, batch)
    weights = (0.1, 2.0, 1.0, 5.0)
    _, found = DiceCrossEntropyLoss(class_weights=weights).terms(logits, labels)
    expected = torch.nn.functional.cross_entropy(
        logits.float(), labels.long(), torch.tensor(weights), ignore_index=-1
    )
    assert found.item() == pytest.approx(expected.item())


def test_equal_class_weights_change_nothing(batch):
    logits, labels = map(torch.tensor, batch)
    assert DiceCrossEntropyLoss(class_weights=(3.0,) * 4)(logits, labels).item() == pytest.approx(
        DiceCrossEntropyLoss()(logits, labels).item()
    )


def test_completeness_is_judged_on_known_voxels_alone():
    outputs = torch.tensor([2.0, -1.0, 30.0]).view(1, 1, 3).requires_grad_()
    targets = torch.tensor([1.0, 0.0, torch.nan]).view(1, 1, 3)
    loss = CompletenessLoss()(outputs, targets)
    expected = (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(-1.0))) / 2
    assert loss.item() == pytest.approx(expected)
    loss.backward()
    assert outputs.grad[0, 0, 2] == 0
    assert CompletenessLoss()(outputs, torch.full((1, 1, 3), torch.nan)).item() == 0
