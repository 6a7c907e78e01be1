import numpy as np

from autospine.vertebrae.splitting import split_fused

PITCH = 15.0


def column(*names, pitch=PITCH, voxels=200, seed=0):
    """Voxels of vertebrae around (z, 40, 40), head first, their bodies 10 mm ahead (towards smaller y)."""
    rng = np.random.default_rng(seed)
    middles = np.array([[100.0 - pitch * i, 40.0, 40.0] for i in range(len(names))])
    places = np.concatenate([middle + rng.uniform(-6, 6, (voxels, 3)) for middle in middles])
    return places, np.repeat(names, voxels), middles - [0.0, 10.0, 0.0]


def test_three_fused_vertebrae_are_taken_apart():
    places, names, bodies = column(2, 3, 4, 5, 6)
    numbers = np.repeat([0, 1, 1, 1, 2], 200)  # 3, 4 and 5 voted for one centre
    centres = bodies[[0, 2, 4]]
    found, result = split_fused(places, numbers, names, centres, np.array([1.0, 3.0, 1.0]))
    np.testing.assert_allclose(found, bodies, atol=1.5)
    np.testing.assert_array_equal(result, np.repeat(range(5), 200))


def test_one_vertebra_with_two_names_stays_one():
    places, _, bodies = column(7)
    names = np.where(places[:, 0] > 100, 7, 8)
    found, result = split_fused(places, np.zeros(200, int), names, bodies, np.array([1.0]))
    np.testing.assert_array_equal(found, bodies)
    assert not result.any()


def test_a_large_vertebra_with_one_name_stays_one():
    places, names, bodies = column(7, 8)
    names[:] = 7
    numbers = np.repeat([0, 1], 200)
    found, result = split_fused(places, numbers, names, bodies, np.array([2.5, 1.0]))
    np.testing.assert_array_equal(found, bodies)
    np.testing.assert_array_equal(result, numbers)


def test_a_few_misnamed_voxels_make_no_vertebra():
    places, names, bodies = column(7, 8, 9)
    names[:20] = 3
    numbers = np.repeat([0, 1, 2], 200)
    found, _ = split_fused(places, numbers, names, bodies, np.array([2.5, 1.0, 1.0]))
    assert len(found) == 3


def test_voxels_of_no_group_stay_so_and_groups_are_ordered_from_head_to_foot():
    places, names, bodies = column(2, 3, 4)
    numbers = np.repeat([1, -1, 0], 200)
    found, result = split_fused(places, numbers, names, bodies[[2, 0]], np.array([1.0, 1.0]))
    np.testing.assert_array_equal(found, bodies[[0, 2]])
    np.testing.assert_array_equal(result, np.repeat([0, -1, 1], 200))


def test_without_groups_there_is_nothing_to_split():
    nothing = np.empty((0, 3))
    found, result = split_fused(nothing, np.empty(0, int), np.empty(0, int), nothing, np.empty(0))
    assert found.shape == (0, 3)
    assert result.shape == (0,)
