"""Which trained configurations predict together and how names are decided: the best in cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from autospine import postprocessing
from autospine.candidates import (
    CandidateTask,
    Contender,
    Scored,
    all_combinations,
    all_contenders,
    find_predictions,
    score_case,
    seconds_per_case,
)
from autospine.core import anatomy, leaderboard
from autospine.core.dataset import Case, Dataset, LabelSchema
from autospine.core.ensemble import Ensemble, Member
from autospine.core.errors import DataError, UsageError
from autospine.core.estimate import Estimate, estimate
from autospine.core.leaderboard import Candidate
from autospine.core.plan import Plan
from autospine.core.run import RunFolder
from autospine.evaluation.overlap import Overlap
from autospine.io import documents
from autospine.io.files import write_text
from autospine.io.parallel import parallel_map
from autospine.reporting import Reporter

#: Differences in mean Dice up to this one decide nothing; the simpler combination is taken.
TOLERANCE: Final = 0.001
#: More configurations than this are not combined in every way: each doubles the number of combinations.
_FINALISTS: Final = 5

Counts = Mapping[int, Overlap]


@dataclass(frozen=True)
class Model:
    """A configuration as it is trained.

    Args:
        folds: Its folds.
        seconds: Network time in seconds of predicting a case with all of them; None when not recorded.
    """

    folds: tuple[int, ...]
    seconds: float | None = None


@dataclass(frozen=True)
class Choice:
    """The chosen ensemble and what the choice could not use.

    Args:
        ensemble: As it stands in ``ensemble.json``.
        left_out: Cases that not every configuration has predicted.
    """

    ensemble: Ensemble
    left_out: tuple[str, ...] = ()

    def table(self) -> str:
        """The leaderboard and the reason for the choice, for a terminal."""
        lines = [leaderboard.as_table(self.ensemble.leaderboard), "", self.ensemble.reason]
        if any(candidate.decoding == "clusters" for candidate in self.ensemble.leaderboard):
            lines.append(
                "Names by clusters were given the reference's first whole vertebra, as a user gives it."
            )
        if self.left_out:
            lines.append(
                f"Not compared, because not every configuration has predicted them: "
                f"{len(self.left_out)} cases, first {', '.join(self.left_out[:3])}."
            )
        return "\n".join(lines)


def choose_ensemble(
    folder: RunFolder,
    dataset: Dataset,
    plan: Plan,
    *,
    largest: int | None = None,
    tolerance: float = TOLERANCE,
    workers: int = 1,
    reporter: Reporter | None = None,
) -> Choice:
    """Score all combinations of what is trained; write ``ensemble.json`` and ``leaderboard.csv``.

    Only cases that every configuration has predicted are compared. Where there are many configurations, each
    is scored alone, and the best are combined. Counts are kept case by case in the folder ``ensembling``,
    so that a killed run goes on where it stopped.

    Args:
        folder: The run.
        dataset: The data set, with the reference masks.
        plan: The run's plan.
        largest: Most members a combination may have; None sets no limit.
        tolerance: Difference in mean Dice up to which the simpler combination is preferred.
        workers: Processes.
        reporter: Where progress is told; by default nowhere.

    Raises:
        UsageError: Nothing is trained, or the configurations have no predicted case in common.
        DataError: The common cases show no label.
        GeometryError: A prediction does not lie on its reference's grid.
    """
    predictions = find_predictions(folder, plan)
    cases, left_out = _common_cases(dataset, predictions, folder)
    patients = {case.identifier: case.group for case in cases}
    scorer = _Scorer(folder, plan, cases, predictions, workers, reporter or Reporter(quiet=True))
    scores = _singles(scorer, plan, list(predictions))
    finalists = _finalists(scores, list(predictions))
    joint = [chosen for chosen in all_combinations(finalists, largest) if len(chosen) > 1]
    scores |= scorer.score(all_contenders(plan, joint), "combinations")
    models = {n: Model(folder.trained_folds(n), seconds_per_case(folder, plan, n)) for n in predictions}
    ensemble = choose(scores, plan.labels, patients, models, tolerance)
    winner = Contender(tuple(member.configuration for member in ensemble.members), ensemble.decoding)
    variants = scorer.score((winner,), "post_processing", post_processed=True)[winner]
    counts = {case: scored.counts for case, scored in variants.items()}
    ensemble = post_process(ensemble, counts, plan.labels, patients)
    documents.save(folder.ensemble, ensemble)
    row = next(c for c in ensemble.leaderboard if Contender(c.members, c.decoding) == winner)
    write_text(folder.leaderboard, leaderboard.as_csv(ensemble.leaderboard, ensemble.cases, row))
    return Choice(ensemble, left_out)


def choose(
    scores: Mapping[Contender, Mapping[str, Scored]],
    labels: LabelSchema,
    patients: Mapping[str, str],
    models: Mapping[str, Model],
    tolerance: float = TOLERANCE,
) -> Ensemble:
    """The combination with the highest mean Dice, under the decoding that names more vertebrae right.

    Clustering was told a vertebra's name, so it is chosen only where there is nothing else. For each other
    decoding, of the combinations whose mean Dice over all (case, reference label) pairs is no more
    than ``tolerance`` below the highest, those with the fewest members are preferred; of these the best
    is taken, and of equal ones the first. Between the decodings' best, the share of vertebrae identified
    decides, and then the mean Dice.

    Args:
        scores: By contender and case; simpler combinations come first.
        labels: What the values mean.
        patients: Patient of each case; they are what the confidence intervals resample.
        models: Folds and cost of each configuration.
        tolerance: See above.

    Raises:
        DataError: No case shows a label.
    """
    board = [_candidate(contender, cases, labels, patients, models) for contender, cases in scores.items()]
    ranked = tuple(sorted(board, key=lambda candidate: -candidate.score.mean))
    decodings = dict.fromkeys(candidate.decoding for candidate in board)
    if len(decodings) > 1:  # what needs to be told a name is no match for what needs no help
        decodings.pop("clusters", None)
    best = [_best([c for c in board if c.decoding == decoding], tolerance) for decoding in decodings]
    chosen = max(best, key=lambda c: (_mean_identified(c), c.score.mean))
    rivals = [candidate for candidate in ranked if candidate.decoding == chosen.decoding]
    cases = len(next(iter(scores.values())))
    reason = _reason(chosen, rivals, cases, tolerance)
    return Ensemble(
        members=tuple(Member(name, models[name].folds) for name in chosen.members),
        score=chosen.score,
        cases=cases,
        leaderboard=ranked,
        reason=" ".join(filter(None, (reason, _comparison(chosen, best)))),
        decoding=chosen.decoding,
    )


def post_process(
    ensemble: Ensemble,
    variants: Mapping[str, Sequence[Counts]],
    labels: LabelSchema,
    patients: Mapping[str, str],
) -> Ensemble:
    """Add the post-processing that helps the ensemble, and its score with it.

    Args:
        ensemble: Chosen without post-processing.
        variants: By case, the voxel counts by label of its four ``postprocessing.variants``.
        labels: What the values mean.
        patients: Patient of each case.
    """
    choice, counts = postprocessing.choose(list(variants.values()))
    score = _estimate(dict(zip(variants, counts, strict=True)), patients)
    kept = ["all vertebrae as one"] if choice.foreground else []
    kept += [labels.names[value] for value in choice.labels]
    if kept:
        sentence = f"Only the largest connected component is kept of: {', '.join(kept)}; mean Dice {score}."
    else:
        sentence = "Keeping only the largest connected component helps no vertebra."
    return replace(ensemble, post_processing=choice, score=score, reason=f"{ensemble.reason} {sentence}")


@dataclass(frozen=True)
class _Scorer:
    """Scores combinations on all cases, in worker processes."""

    folder: RunFolder
    plan: Plan
    cases: Sequence[Case]
    predictions: Mapping[str, Mapping[str, Path]]
    workers: int
    reporter: Reporter

    def score(
        self, contenders: tuple[Contender, ...], place: str, *, post_processed: bool = False
    ) -> dict[Contender, dict[str, Scored]]:
        """By contender and case; what is counted is kept in the folder ``place``."""
        if not contenders:
            return {}
        tasks = [self._task(case, contenders, place, post_processed) for case in self.cases]
        result: dict[Contender, dict[str, Scored]] = {contender: {} for contender in contenders}
        what = place.replace("_", " ") if post_processed else f"{len(contenders)} candidates"
        with self.reporter.bar(len(tasks), f"score {what}") as advance:
            for case, counts in zip(self.cases, parallel_map(score_case, tasks, self.workers), strict=True):
                for contender, scored in zip(contenders, counts.scored, strict=True):
                    result[contender][case.identifier] = scored
                advance(case.identifier)
        return result

    def _task(
        self, case: Case, contenders: tuple[Contender, ...], place: str, post_processed: bool
    ) -> CandidateTask:
        names = {name for contender in contenders for name in contender.members}
        return CandidateTask(
            case=case,
            predictions={n: of[case.identifier] for n, of in self.predictions.items() if n in names},
            contenders=contenders,
            plan=self.plan,
            cache=self.folder.root / "ensembling" / place / f"{case.identifier}.json",
            post_processed=post_processed,
        )


def _singles(scorer: _Scorer, plan: Plan, names: Sequence[str]) -> dict[Contender, dict[str, Scored]]:
    """Scores of each configuration alone, one after the other: many may not fit into memory together."""
    scores: dict[Contender, dict[str, Scored]] = {}
    for name in names:
        scores |= scorer.score(all_contenders(plan, [(name,)]), f"alone/{name}")
    return scores


def _finalists(scores: Mapping[Contender, Mapping[str, Scored]], names: Sequence[str]) -> list[str]:
    """The configurations worth combining, in the plan's order: those that are best alone.

    What knows no names was told one, so its score is beyond compare: only the best of its kind is among them.
    """

    def quality(name: str) -> float:
        return max(_mean_dice(cases) for contender, cases in scores.items() if contender.members == (name,))

    ranked = sorted(names, key=quality, reverse=True)
    unnamed = [name for name in ranked if Contender((name,), "clusters") in scores][:1]
    naming = [name for name in ranked if Contender((name,), "clusters") not in scores]
    best = [*naming[: _FINALISTS - len(unnamed)], *unnamed]
    return [name for name in names if name in best]


def _mean_dice(cases: Mapping[str, Scored]) -> float:
    values = [o.dice for scored in cases.values() for o in scored.counts[0].values() if o.reference]
    return float(np.mean(values)) if values else 0.0


def _common_cases(
    dataset: Dataset, predictions: Mapping[str, Mapping[str, Path]], folder: RunFolder
) -> tuple[list[Case], tuple[str, ...]]:
    if not predictions:
        raise UsageError(
            "No configuration has out-of-fold predictions.",
            where=folder.root,
            remedy="Train at least one fold first.",
        )
    common = set.intersection(*(set(of) for of in predictions.values()))
    cases = [case for case in dataset.training if case.label is not None and case.identifier in common]
    if not cases:
        raise UsageError(
            f"The configurations {', '.join(predictions)} have no predicted case of the data set in common.",
            where=folder.root,
            remedy="Train the same folds of each of them.",
        )
    known = {case.identifier for case in cases}
    return cases, tuple(case.identifier for case in dataset.training if case.identifier not in known)


def _candidate(
    contender: Contender,
    cases: Mapping[str, Scored],
    labels: LabelSchema,
    patients: Mapping[str, str],
    models: Mapping[str, Model],
) -> Candidate:
    counts = {case: scored.counts[0] for case, scored in cases.items()}
    named = {case: scored for case, scored in cases.items() if scored.vertebrae}
    hits = [float(i < scored.identified) for scored in named.values() for i in range(scored.vertebrae)]
    groups = [patients[case] for case, scored in named.items() for _ in range(scored.vertebrae)]
    return Candidate(
        contender.members,
        _estimate(counts, patients),
        _region_means(counts, labels),
        _total([models[name].seconds for name in contender.members]),
        contender.decoding,
        estimate(hits, groups),
        float(np.mean([scored.all_right for scored in named.values()])) if named else None,
    )


def _best(board: Sequence[Candidate], tolerance: float) -> Candidate:
    highest = max(candidate.score.mean for candidate in board)
    close = [candidate for candidate in board if candidate.score.mean >= highest - tolerance]
    return min(close, key=lambda candidate: (len(candidate.members), -candidate.score.mean))


def _mean_identified(candidate: Candidate) -> float:
    return 0.0 if candidate.identified is None else candidate.identified.mean


def _comparison(chosen: Candidate, best: Sequence[Candidate]) -> str:
    """What either decoding reaches, where there is a choice."""
    others = [candidate for candidate in best if candidate is not chosen]
    if not others:
        return ""
    text = "; ".join(map(_in_words, (chosen, *others))) + "."
    return text[0].upper() + text[1:]


def _in_words(candidate: Candidate) -> str:
    way = {"sequence": "as a column", "argmax": "voxel by voxel", "clusters": "from an anchor"}[
        candidate.decoding
    ]
    share, dice = _mean_identified(candidate), candidate.score.mean
    return f"named {way}, {candidate.name} identifies {share:.4f} of the vertebrae at Dice {dice:.4f}"


def _region_means(counts: Mapping[str, Counts], labels: LabelSchema) -> dict[str, float]:
    by_region: dict[str, list[float]] = {}
    for of_case in counts.values():
        for value, overlap in of_case.items():
            if overlap.reference and value in labels.vertebrae:
                region = anatomy.region_of(labels.vertebrae[value])
                by_region.setdefault(region, []).append(overlap.dice)
    return {region: float(np.mean(values)) for region, values in sorted(by_region.items())}


def _total(seconds: Sequence[float | None]) -> float | None:
    known = [value for value in seconds if value is not None]
    return sum(known) if len(known) == len(seconds) else None


def _estimate(counts: Mapping[str, Counts], patients: Mapping[str, str]) -> Estimate:
    pairs = [(o.dice, patients[case]) for case, of in counts.items() for o in of.values() if o.reference]
    result = estimate([dice for dice, _ in pairs], [patient for _, patient in pairs])
    if result is None:
        raise DataError(
            "The reference masks of the compared cases show no label.",
            remedy="Check the data set's masks.",
        )
    return result


def _reason(chosen: Candidate, ranked: Sequence[Candidate], cases: int, tolerance: float) -> str:
    score = f"mean Dice {chosen.score} over {cases} out-of-fold cases"
    if len(ranked) == 1:
        return f"{chosen.name} is the only candidate: {score}."
    if chosen is ranked[0]:
        return f"{chosen.name} is the best of {len(ranked)} candidates: {score}."
    best = ranked[0]
    return (
        f"{chosen.name} is simpler than {best.name} and, at {score}, no more than {tolerance:g} behind its "
        f"{best.score.mean:.4f}, the best of {len(ranked)} candidates."
    )
