import numpy as np
import pytest
import torch

from autospine.target_labels import ball_labels, foreground_labels, undersampled


def points(*centres, classes=4):
    """Centres by class of one sample, NaN for the others."""
    table = torch.full((1, classes, 3), torch.nan)
    for channel, centre in centres:
        table[0, channel] = torch.tensor(centre)
    return table


def test_every_vertebra_counts_as_foreground_and_nothing_else():
    labels = torch.tensor([[0, 1, 2, 3, -1]], dtype=torch.int8)
    joined = foreground_labels(labels, (1, 3))
    assert joined.tolist() == [[0, 1, 0, 1, -1]]
    assert joined.dtype == torch.int8


def test_a_ball_is_round_in_mm_and_carries_its_class():
    labels = torch.zeros(1, 9, 21, 21, dtype=torch.int8)
    made = ball_labels(labels, points((2, (0.0, 0.0, 0.0))), [2.0, 1.0, 1.0])[0].numpy()
    z, y, x = np.nonzero(made == 2)
    radii = np.sqrt(((z - 4) * 2.0) ** 2 + (y - 10) ** 2 + (x - 10) ** 2)
    assert radii.max() < 6
    assert len(z) * 2.0 == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.1)
    assert set(np.unique(made)) == {0, 2}


def test_a_slice_beside_the_centre_shows_a_disc():
    labels = torch.zeros(1, 31, 31, dtype=torch.int8)
    sizes = [
        int((ball_labels(labels, points((1, (away, 0.0, 0.0))), [1.0, 1.0, 1.0]) == 1).sum())
        for away in (0.0, 4.0, 7.0)
    ]
    assert sizes[0] == pytest.approx(np.pi * 36, rel=0.1)
    assert sizes[1] == pytest.approx(np.pi * (36 - 16), rel=0.15)
    assert sizes[2] == 0


def test_the_nearer_of_two_balls_wins_and_unknown_voxels_stay_unknown():
    labels = torch.zeros(1, 1, 1, 13, dtype=torch.int8)
    labels[..., 12] = -1
    both = points((1, (0.0, 0.0, -2.0)), (2, (0.0, 0.0, 2.0)))
    made = ball_labels(labels, both, [1.0, 1.0, 1.0])[0, 0, 0].tolist()
    assert made == [1] * 7 + [2] * 5 + [-1]


def test_undersampling_keeps_every_label_and_as_much_background():
    labels = torch.zeros(4, 64, 64, dtype=torch.int8)
    labels[:, 20:36, 20:36] = 3
    kept = undersampled(labels, 0.5, torch.Generator().manual_seed(0))
    assert torch.equal(kept[labels > 0], labels[labels > 0])
    background = kept == 0
    assert int(background.sum()) == pytest.approx(int((labels > 0).sum()), rel=0.1)
    near = torch.zeros_like(labels, dtype=torch.bool)
    near[:, 10:46, 10:46] = True
    assert int((background & near).sum()) == pytest.approx(int(background.sum()) / 2, rel=0.15)


def test_undersampling_is_drawn_anew_and_repeats_from_a_seed():
    labels = torch.zeros(1, 40, 40, dtype=torch.int8)
    labels[:, 10:14, 10:14] = 1
    first, again, other = (
        undersampled(labels, 0.5, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_batch_without_labels_still_teaches_background():
    labels = torch.zeros(2, 50, 50, dtype=torch.int8)
    kept = undersampled(labels, 0.0, torch.Generator().manual_seed(0))
    assert 20 < int((kept == 0).sum()) < 80
