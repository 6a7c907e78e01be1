"""Systems of 2D networks learn one phantom by heart."""

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
        ("ssae", 1000, {"learning_rate": 5e-3}),
        ("svseg", 640, {"learning_rate": 5e-3}),
        ("padbn", 1800, {"learning_rate": 2e-3}),
        ("segnet", 480, {}),
        ("caeb7_unet:norm=instance", 320, {"learning_rate": 3e-3}),
    ],
)
def test_a_phantom_is_learnt_and_its_weights_predict_it_again(one_phantom, tmp_path, system, steps, schedule):
    trained = overfitting.Overfitted(one_phantom, tmp_path / "run", system, steps, **schedule)
    mask = trained.validation_mask()
    assert trained.dice(mask) > 0.9
    assert trained.share_that_differs(trained.predicted(), mask) < 0.002
