import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from autospine.core import errors
from autospine.core.errors import AutospineError, DataError, LabelError, UsageError
from autospine.core.geometry import Grid


def kinds(base=AutospineError):
    return [base, *(kind for sub in base.__subclasses__() for kind in kinds(sub))]


@pytest.mark.parametrize(
    ("where", "remedy", "text"),
    [
        (None, "", "Something is off."),
        (Path("scans/a.nii"), "", "scans/a.nii: Something is off."),
        (None, "Mend it.", "Something is off. Mend it."),
        ("case a", "Mend it.", "case a: Something is off. Mend it."),
    ],
)
def test_the_text_says_where_what_and_what_to_do(where, remedy, text):
    assert str(AutospineError("Something is off.", where=where, remedy=remedy)) == text


def test_exit_codes_follow_the_tree():
    for kind in kinds():
        wanted = 2 if issubclass(kind, UsageError) else 3 if issubclass(kind, DataError) else 1
        assert kind.exit_code == wanted, kind


def test_the_tree_in_the_documentation_is_complete():
    assert errors.__doc__ is not None
    assert all(kind.__name__ in errors.__doc__ for kind in kinds() if kind.__module__ == errors.__name__)


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_every_error_survives_pickling(kind):
    error = kind("Off.", where=Path("a.nii"), remedy="Mend it.")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (copy.message, copy.where, copy.remedy) == ("Off.", Path("a.nii"), "Mend it.")


def test_an_error_crosses_a_process_border_unharmed():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        caught = pool.submit(Grid, (2, 2, 2), (0.0, 1.0, 1.0)).exception()
    assert isinstance(caught, errors.GeometryError)
    assert "voxel size" in caught.remedy
    assert str(caught).startswith("The spacing")


def test_data_errors_are_caught_as_one():
    with pytest.raises(DataError):
        raise LabelError("Undeclared value 7.")
