import pytest

from autospine.core.errors import UsageError
from autospine.core.network_options import (
    ChasppOptions,
    EfficientNetOptions,
    SegNetOptions,
    UnbalancedOptions,
    options_of,
    options_of_text,
)
from autospine.core.plan import NetworkSpec
from autospine.io.documents import from_json, to_json


def spec(**options):
    return NetworkSpec("some_net", (4, 8), ((3, 3),) * 2, ((1, 1), (2, 2)), (1, 1), (1,), options)


def test_what_is_not_named_has_its_default():
    found = options_of(spec(variant="b3"), EfficientNetOptions)
    assert found == EfficientNetOptions(variant="b3")


def test_an_unknown_option_is_refused_with_what_there_is():
    with pytest.raises(UsageError, match="no option 'depth'") as caught:
        options_of(spec(depth=3), SegNetOptions)
    assert "heads" in caught.value.remedy


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (EfficientNetOptions, {"variant": "b8"}),
        (EfficientNetOptions, {"decoder": 16}),
        (UnbalancedOptions, {"residual": 1}),
        (UnbalancedOptions, {"decoder_width": "half"}),
        (ChasppOptions, {"first_pyramid": 2.5}),
    ],
)
def test_impossible_values_are_refused(kind, options):
    with pytest.raises(UsageError, match=next(iter(options))):
        options_of(spec(**options), kind)


def test_text_becomes_values_of_the_groups_it_belongs_to():
    efficient, pyramid, nothing = options_of_text(
        (EfficientNetOptions(), ChasppOptions(), None),
        {"variant": "b1", "rates": "1/2/4", "attention_gates": "false", "first_pyramid": "3"},
        "some_system",
    )
    assert efficient == EfficientNetOptions(variant="b1")
    assert pyramid == ChasppOptions(rates=(1, 2, 4), attention_gates=False, first_pyramid=3)
    assert nothing is None


@pytest.mark.parametrize(
    "given", [{"rates": "1,2"}, {"first_pyramid": "two"}, {"attention_gates": "maybe"}, {"width": "3"}]
)
def test_text_that_means_nothing_is_refused(given):
    with pytest.raises(UsageError):
        options_of_text((ChasppOptions(),), given, "some_system")


def test_options_survive_a_plan_document():
    made = spec(variant="b3", decoder=(32, 16), attention="se", scale=0.5, residual=True)
    assert from_json(NetworkSpec, to_json(made), None) == made
