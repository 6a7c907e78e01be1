import pytest

from autospine.core import anatomy
from autospine.core.anchor import Anchor, Anchors
from autospine.core.errors import DocumentError, UsageError
from autospine.io.anchors import read_anchors

T12, L5 = anatomy.label_of("T12"), anatomy.label_of("L5")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("T12", Anchor(T12)), ("first=t12", Anchor(T12)), ("last=L5", Anchor(L5, "last")), (" L5 ", Anchor(L5))],
)
def test_anchors_are_read(text, expected):
    assert Anchor.parse(text) == expected


@pytest.mark.parametrize("text", ["", "S1", "T14", "middle=L1", "first=", "20"])
def test_what_is_no_anchor_is_refused(text):
    with pytest.raises(UsageError):
        Anchor.parse(text)


def test_one_anchor_holds_for_every_scan():
    assert read_anchors("last=L5").of("any") == Anchor(L5, "last")


def test_a_table_gives_each_scan_its_own(tmp_path):
    path = tmp_path / "anchors.csv"
    path.write_text("scan,anchor\na,T12\nb,last=L5\n")
    anchors = read_anchors(str(path))
    assert (anchors.of("a"), anchors.of("b"), anchors.of("c")) == (Anchor(T12), Anchor(L5, "last"), None)


@pytest.mark.parametrize("table", ["scan,anchor\na,X9\n", "name,level\na,T12\n", "scan,anchor\na\n"])
def test_a_bad_table_is_refused_with_the_line(tmp_path, table):
    path = tmp_path / "anchors.csv"
    path.write_text(table)
    with pytest.raises(DocumentError, match="Line 2"):
        read_anchors(str(path))


def test_an_absent_table_is_refused(tmp_path):
    with pytest.raises(DocumentError, match="cannot be read"):
        read_anchors(str(tmp_path / "none.csv"))


def test_a_scans_own_anchor_comes_before_the_common_one():
    anchors = Anchors(Anchor(T12), {"a": Anchor(L5)})
    assert (anchors.of("a"), anchors.of("b")) == (Anchor(L5), Anchor(T12))
