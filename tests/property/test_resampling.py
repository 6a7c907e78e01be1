import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.transform import resize

from autospine.resampling import resample_image, resample_labels, resize_matrix

shapes = st.tuples(*[st.integers(1, 24)] * 3)
long = st.integers(1, 300)


@settings(max_examples=40)
@given(shapes, shapes, st.sampled_from([0, 1, 3]), st.integers(0, 99))
def test_images_are_resampled_as_by_skimage(shape, target, order, seed):
    image = np.random.default_rng(seed).normal(size=shape)
    expected = resize(image, target, order=order, mode="edge", anti_aliasing=False)
    if order == 0:
        # Exactly between two voxels either is nearest; rounding decides.
        ties = [np.isclose(((np.arange(m) + 0.5) * n / m) % 1, 0) for n, m in zip(shape, target, strict=True)]
        expected = expected[np.ix_(*[~t for t in ties])]
        result = resample_image(image[None], target, order)[0][np.ix_(*[~t for t in ties])]
        np.testing.assert_allclose(result, expected, atol=1e-6)
    else:
        np.testing.assert_allclose(resample_image(image[None], target, order)[0], expected, atol=2e-5)


@settings(max_examples=20)
@given(long, long, st.integers(0, 99))
def test_long_axes_are_applied_block_by_block(n_in, n_out, seed):
    line = np.random.default_rng(seed).normal(size=n_in)
    expected = ndimage.zoom(line, n_out / n_in, order=3, mode="nearest", grid_mode=True)
    result = resample_image(line[None, None, None], (1, 1, n_out))[0, 0, 0]
    np.testing.assert_allclose(result, expected.clip(line.min(), line.max()), atol=2e-5)


@settings(max_examples=30)
@given(long, long)
def test_linear_weights_join_two_neighbours(n_in, n_out):
    matrix = resize_matrix(n_in, n_out)
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
    for row in matrix:
        used = np.flatnonzero(row)
        assert used[-1] - used[0] <= 1


@settings(max_examples=40)
@given(shapes, shapes, st.integers(1, 6), st.integers(0, 99), st.sampled_from([None, 0, 2]))
def test_labels_are_resampled_as_one_hot_channels(shape, target, count, seed, separate):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(-1, count, [-(-n // 4) for n in shape])
    labels = np.kron(coarse, np.ones((4, 4, 4), int))[tuple(slice(n) for n in shape)].astype(np.int8)
    matrices = [
        resize_matrix(n, m, 0 if axis == separate else 1).astype(float)
        for axis, (n, m) in enumerate(zip(shape, target, strict=True))
    ]
    present = np.unique(labels)
    one_hot = (labels == present[:, None, None, None]).astype(float)
    weights = np.einsum("czyx,Zz,Yy,Xx->cZYX", one_hot, *matrices, optimize=True)
    result = resample_labels(labels, target, separate)
    chosen = np.take_along_axis(weights, np.searchsorted(present, result)[None], axis=0)[0]
    assert np.isin(result, present).all()
    assert (weights.max(axis=0) - chosen).max() < 1e-6
