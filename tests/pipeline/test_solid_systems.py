"""Systems of 3D networks learn one phantom by heart."""

import importlib.util
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("overfitting", Path(__file__).with_name("overfitting.py"))
overfitting = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(overfitting)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("system", "steps", "schedule"),
    [
        ("unbalanced_unet", 400, {}),
        ("mru_net", 240, {}),
        ("dense_unet_2stage", 240, {}),
        ("locate_then_segment", 320, {}),
        ("iterative", 1400, {}),
    ],
)
def test_a_phantom_is_learnt_and_its_weights_predict_it_again(one_phantom, tmp_path, system, steps, schedule):
    trained = overfitting.Overfitted(one_phantom, tmp_path / "run", system, steps, **schedule)
    mask = trained.validation_mask()
    assert trained.dice(mask) > 0.9
    assert trained.share_that_differs(trained.predicted(), mask) < 0.002
