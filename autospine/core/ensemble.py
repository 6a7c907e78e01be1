"""The chosen ensemble: which trained models predict together, and what happens to their mask."""

from __future__ import annotations

from dataclasses import dataclass

from autospine.core.column_report import Decoding
from autospine.core.estimate import Estimate
from autospine.core.leaderboard import Candidate


@dataclass(frozen=True)
class Member:
    """One configuration of an ensemble.

    Args:
        configuration: Its name in the plan.
        folds: The folds whose logits are averaged.
        weight: Its share in the weighted mean of the members' softmax.
    """

    configuration: str
    folds: tuple[int, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class PostProcessing:
    """Which smaller connected components are turned into background.

    Args:
        foreground: Keep only the largest component of all labels taken as one.
        labels: Then keep only the largest component of each of these label values.
    """

    foreground: bool = False
    labels: tuple[int, ...] = ()


@dataclass(frozen=True)
class Ensemble:
    """What predicts new scans.

    Args:
        members: The configurations, with at least one.
        post_processing: What happens to the merged mask.
        score: Cross-validated mean Dice with post-processing; None when nothing was compared.
        cases: Number of out-of-fold cases it was computed on.
        leaderboard: All combinations that were compared, best first.
        reason: Why this one.
        decoding: How names are decided: voxel by voxel, or for the column as a whole.
        version: Of this document's layout.
    """

    members: tuple[Member, ...]
    post_processing: PostProcessing = PostProcessing()
    score: Estimate | None = None
    cases: int = 0
    leaderboard: tuple[Candidate, ...] = ()
    reason: str = ""
    decoding: Decoding = "argmax"
    version: int = 1

    @property
    def name(self) -> str:
        """The members' names, joined."""
        return " + ".join(member.configuration for member in self.members)
