"""The challenges autospine can submit to, by the names the command line gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from autospine.submission.challenge import Challenge
from autospine.submission.verse19 import VERSE19
from autospine.submission.verse20 import VERSE20
from autospine.submission.xvertseg import XVERTSEG

Name = Literal["verse19", "verse20", "xvertseg"]

CHALLENGES: Final[Mapping[Name, Challenge]] = {
    "verse19": VERSE19,
    "verse20": VERSE20,
    "xvertseg": XVERTSEG,
}
