from autospine.cli.overrides import ScheduleOverrides, override
from autospine.core.plan import Augmentation, Schedule


def test_only_what_is_given_changes():
    nested = type(ScheduleOverrides().augmentation)(scale=(0.9, 1.1))
    changed = override(Schedule(learning_rate=0.5), ScheduleOverrides(epochs=7, augmentation=nested))
    assert changed == Schedule(learning_rate=0.5, epochs=7, augmentation=Augmentation(scale=(0.9, 1.1)))


def test_nothing_given_changes_nothing():
    assert override(Schedule(seed=3), ScheduleOverrides()) == Schedule(seed=3)


def test_false_and_zero_are_values():
    changed = override(Schedule(), ScheduleOverrides(nesterov=False, warmup_steps=0, validation_steps=0))
    assert not changed.nesterov
    assert changed.validation_steps == 0
