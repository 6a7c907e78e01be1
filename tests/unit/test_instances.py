import numpy as np
import pytest

from autospine.vertebrae.instances import REACH, Votes, find_centres, nearest_centre


def votes_around(centres, scatter=2.0, count=300, mm3=20.0, seed=0):
    """So many votes for each centre, each worth ``mm3``, with a normal error."""
    rng = np.random.default_rng(seed)
    places = np.concatenate([rng.normal(centre, scatter, (count, 3)) for centre in np.atleast_2d(centres)])
    return Votes(places, np.full(len(places), mm3))


@pytest.mark.parametrize("pitch", [15.0, 22.0, 36.0])
def test_every_vertebra_of_a_column_is_found_once(pitch):
    column = np.array([[i * pitch, 60 + 3 * i, 40] for i in range(8)])
    centres = find_centres(votes_around(column))
    assert len(centres) == 8
    np.testing.assert_allclose(centres, column[::-1], atol=1.0)  # from head to foot


def test_scattered_votes_of_a_large_vertebra_make_one_centre():
    centres = find_centres(votes_around([[100.0, 50.0, 50.0]], scatter=5.0, count=3000))
    assert len(centres) == 1


def test_a_few_stray_votes_are_no_vertebra():
    assert len(find_centres(votes_around([[0.0, 0.0, 0.0]], count=10))) == 0


def test_an_echo_beside_a_vertebra_is_none():
    body = votes_around([[50.0, 50.0, 50.0]], count=2000)
    echo = votes_around([[50.0, 50.0, 66.0]], count=100, seed=1)
    assert len(find_centres(body, echo)) == 1
    assert len(find_centres(echo)) == 1


def test_nobody_votes():
    assert find_centres().shape == (0, 3)
    assert nearest_centre(np.zeros((4, 3)), np.empty((0, 3))).tolist() == [-1] * 4


def test_votes_far_from_every_centre_belong_to_none():
    centres = np.array([[0.0, 0.0, 0.0], [40.0, 0.0, 0.0]])
    places = np.array([[1.0, 0, 0], [39.0, 0, 0], [19.0, 0, 0], [40.0 + 1.01 * REACH, 0, 0]])
    assert nearest_centre(places, centres).tolist() == [0, 1, 0, -1]


def test_members_votes_are_pooled_before_anything_is_decided():
    weak = votes_around([[20.0, 20.0, 20.0]], count=18, mm3=20.0)
    other = votes_around([[20.0, 20.0, 20.0]], count=18, mm3=20.0, seed=1)
    assert len(find_centres(weak)) == 0
    assert len(find_centres(weak, other)) == 1
