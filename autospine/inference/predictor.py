"""Prediction of new scans by the chosen combination of trained models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from autospine.core.anchor import Anchor
from autospine.core.column_report import Decoding, Partial
from autospine.core.ensemble import Ensemble, Member
from autospine.core.errors import UsageError
from autospine.core.findings import Findings, Located
from autospine.core.plan import Configuration, Plan
from autospine.core.run import RunFolder, preprocessing_source
from autospine.core.trace import Trace
from autospine.core.volume import Volume
from autospine.host_memory import resident_memory
from autospine.inference.clustering import decode_clusters
from autospine.inference.decoding import (
    Decoded,
    can_name_columns,
    decode_argmax,
    decode_sequence,
    post_processed,
)
from autospine.inference.locating import locate
from autospine.inference.memory import MemoryPlan, ScanMemory, plan_memory
from autospine.inference.prediction import Prediction
from autospine.inference.stages import Execution, Handover, handed_map, predict_stage
from autospine.io import documents
from autospine.io.scratch import IN_MEMORY, Scratch
from autospine.networks import build
from autospine.precision import autocast, choose_precision
from autospine.preprocessing import image_of, preprocess_image, resample_previous, trace_of
from autospine.weights import load_tensors, set_weights


@dataclass
class Predictor:
    """A model folder, its networks loaded when they are first needed.

    Args:
        folder: The run or model folder.
        plan: Its plan.
        ensemble: Which members predict, and what happens to their mask.
        device: Where the networks run.
        mirror: Average over the mirrorings that the plan permits.
        partial: What becomes of vertebrae that the border cuts; None follows the plan.
    """

    folder: RunFolder
    plan: Plan
    ensemble: Ensemble
    device: torch.device
    mirror: bool = True
    partial: Partial | None = None
    _networks: dict[tuple[str, tuple[int, ...]], list[nn.Module]] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, object]:
        # Another process reads its networks itself: they would not share the memory anyway.
        return self.__dict__ | {"_networks": {}}

    @classmethod
    def open(
        cls,
        folder: RunFolder,
        device: str,
        *,
        configurations: Sequence[str] = (),
        folds: Sequence[int] = (),
        mirror: bool = True,
        decoding: Decoding | None = None,
        partial: Partial | None = None,
    ) -> Predictor:
        """Read a model folder.

        Args:
            folder: The run or model folder.
            device: ``"cpu"``, ``"cuda"``, …
            configurations: Use these, equally weighted, instead of the chosen ensemble.
            folds: Use these folds instead of all trained ones.
            mirror: Whether to average over mirrorings.
            decoding: How names are decided; None follows the ensemble, and where configurations are given
                names columns if one of them has learnt to.
            partial: What becomes of vertebrae that the border cuts; None follows the plan.

        Raises:
            DocumentError: The plan or the ensemble is absent or damaged.
            UsageError: A configuration or fold has not been trained or has not learnt to name columns, or
                ``partial`` is given where none is named.
        """
        plan = documents.load(folder.plan, Plan)
        ensemble = _ensemble(folder, plan, configurations, folds)
        if decoding is not None:
            ensemble = replace(ensemble, decoding=_possible(decoding, ensemble, plan))
        for member in ensemble.members:
            _require_trained(folder, member)
        if partial is not None and ensemble.decoding != "sequence":
            raise UsageError(
                "Only names decided for the column as a whole tell which vertebrae the border cuts.",
                remedy="Leave out --partial, or use --naming sequence.",
            )
        return cls(folder, plan, ensemble, torch.device(device), mirror, partial)

    def predict(self, scan: Volume, anchor: Anchor | None = None) -> Decoded:
        """The mask of one scan and the vertebrae in it.

        Args:
            scan: Intensities of shape (1, z, y, x), HU for CT, in any orientation.
            anchor: A vertebra's name, where names are decided by clustering.

        Raises:
            UsageError: The anchor leads beyond the column's end.
        """
        return self.merge(self.predict_members(scan), anchor)

    def begin(self, scan: Volume) -> ScanWork:
        """The way of one scan, as ``predict`` takes it, through the configurations."""
        return ScanWork(self, scan)

    def predict_members(self, scan: Volume) -> Mapping[str, Prediction]:
        """Logits at model resolution of every member, by configuration."""
        return self.begin(scan).members()

    def merge(self, predictions: Mapping[str, Prediction], anchor: Anchor | None = None) -> Decoded:
        """The members' outputs as one post-processed mask on the scan's own grid, and its vertebrae."""
        members = [predictions[m.configuration] for m in self.ensemble.members]
        weights = [m.weight for m in self.ensemble.members]
        if self.ensemble.decoding == "sequence":
            decoded = decode_sequence(members, weights, self.plan, self.partial)
        elif self.ensemble.decoding == "clusters":
            decoded = decode_clusters(members, weights, self.plan, anchor)
        else:
            decoded = decode_argmax(members, weights, self.plan)
        return post_processed(decoded, self.ensemble.post_processing, members[0].trace.grid)

    def stages(self) -> dict[str, tuple[int, ...]]:
        """Every configuration that predicts, a previous stage before the next, and its folds."""
        stages: dict[str, tuple[int, ...]] = {}
        for member in self.ensemble.members:
            chain = [self.plan.configuration(member.configuration)]
            while chain[0].previous_stage:
                chain.insert(0, self.plan.configuration(chain[0].previous_stage))
            stages |= {configuration.name: member.folds for configuration in chain}
        return stages

    def networks(self, configuration: Configuration, folds: tuple[int, ...]) -> list[nn.Module]:
        """The trained networks of a configuration's folds, on the device, in evaluation mode."""
        key = (configuration.name, folds)
        if key not in self._networks:
            self._networks[key] = [self._load(configuration, fold) for fold in folds]
        return self._networks[key]

    def _load(self, configuration: Configuration, fold: int) -> nn.Module:
        path = self.folder.weights(configuration.name, fold)
        channels = self.plan.input_channels(configuration)
        outputs = self.plan.output_channels(configuration)
        network = build(configuration.network, channels, outputs)
        set_weights(network, load_tensors(path)[0], path)
        return network.to(self.device).eval()


class ScanWork:
    """One scan on its way through the configurations; what two of them share is computed once.

    Args:
        predictor: Whose networks predict.
        scan: Intensities of shape (1, z, y, x), HU for CT, in any orientation.
    """

    def __init__(self, predictor: Predictor, scan: Volume) -> None:
        self.predictor = predictor
        self.scan = scan
        self._scratch = IN_MEMORY
        self._traces: dict[str, Trace] = {}
        self._images: dict[str, NDArray[np.float32]] = {}
        self._predictions: dict[tuple[str, tuple[int, ...]], Prediction] = {}
        self._found: dict[tuple[str, tuple[int, ...]], Findings] = {}

    def memory(self, ceiling: int, folder: Path) -> MemoryPlan:
        """What the prediction takes, so that it takes no more than ``ceiling``.

        Args:
            ceiling: Bytes of the host's memory that this process may take.
            folder: Where network outputs go that memory does not suffice for.

        Raises:
            ResourceError: The scan does not fit.
            DataError: The scan has other channels than the plan.
        """
        stages, plan = self.predictor.stages(), self.predictor.plan
        configurations = [plan.configuration(name) for name in stages]
        for configuration in configurations:  # their memory is taken before, not during
            self.predictor.networks(configuration, stages[configuration.name])
        needs = ScanMemory(
            base=max(0, resident_memory() - self.scan.array.nbytes),
            scan=self.scan.array.nbytes,
            voxels=math.prod(self.scan.grid.shape),
            stages=configurations,
            traces={c.name: self._trace(c) for c in configurations},
            plan=plan,
            joined=self.predictor.ensemble.decoding != "argmax",
        )
        return plan_memory(needs, ceiling, folder)

    @torch.inference_mode()
    def members(self, scratch: Scratch = IN_MEMORY) -> Mapping[str, Prediction]:
        """Logits at model resolution of every member, by configuration.

        Args:
            scratch: Where the logits go.

        Raises:
            StorageError: They go to a disk that refuses.
        """
        self._scratch = scratch
        chosen = self.predictor.ensemble.members
        return {m.configuration: self.prediction(m.configuration, m.folds) for m in chosen}

    def prediction(self, name: str, folds: tuple[int, ...]) -> Prediction:
        """Logits of one configuration, averaged over the folds."""
        if (name, folds) not in self._predictions:
            self._predictions[name, folds] = self._predict(self.predictor.plan.configuration(name), folds)
        return self._predictions[name, folds]

    def _predict(self, configuration: Configuration, folds: tuple[int, ...]) -> Prediction:
        predictor = self.predictor
        image, trace = self._image(configuration, folds)
        before = self._handover(configuration, folds, trace)
        precision = choose_precision(configuration.schedule.precision, predictor.device)
        networks = predictor.networks(configuration, folds)
        with autocast(predictor.device, precision):
            return predict_stage(
                networks,
                image,
                trace,
                configuration,
                predictor.plan,
                Execution(predictor.device, predictor.mirror, self._scratch),
                before,
            )

    def _handover(self, configuration: Configuration, folds: tuple[int, ...], trace: Trace) -> Handover:
        class_map: NDArray[np.int8] | None = None
        vertebrae: tuple[Located, ...] = ()
        if configuration.fed:
            previous = self.prediction(configuration.previous_stage or "", folds)
            handed = handed_map(previous, configuration, self.predictor.plan)
            class_map = resample_previous(handed, previous.trace, trace)
        if configuration.view == "vertebrae":
            vertebrae = self._findings(configuration.previous_stage or "", folds).vertebrae
        return Handover(class_map, vertebrae)

    def _findings(self, name: str, folds: tuple[int, ...]) -> Findings:
        """Where one configuration has found vertebrae."""
        if (name, folds) not in self._found:
            plan = self.predictor.plan
            self._found[name, folds] = locate(self.prediction(name, folds), plan.configuration(name), plan)
        return self._found[name, folds]

    def _image(
        self, configuration: Configuration, folds: tuple[int, ...]
    ) -> tuple[NDArray[np.float32], Trace]:
        if configuration.crop == "spine":
            spine = self._findings(configuration.previous_stage or "", folds).spine
            return preprocess_image(self.scan, configuration, spine)
        trace, source = self._trace(configuration), self._source(configuration)
        if source not in self._images:
            self._images[source] = image_of(self.scan, configuration, trace)
        return self._images[source], trace

    def _trace(self, configuration: Configuration) -> Trace:
        """How the scan is preprocessed, as far as that is known before anything is predicted."""
        source = self._source(configuration)
        if source not in self._traces:
            self._traces[source] = trace_of(self.scan, configuration)
        return self._traces[source]

    def _source(self, configuration: Configuration) -> str:
        return preprocessing_source(self.predictor.plan, configuration).name


def _ensemble(folder: RunFolder, plan: Plan, configurations: Sequence[str], folds: Sequence[int]) -> Ensemble:
    if not configurations:
        chosen = documents.load(folder.ensemble, Ensemble)
        if not folds:
            return chosen
        return Ensemble(
            members=tuple(Member(m.configuration, tuple(folds), m.weight) for m in chosen.members),
            post_processing=chosen.post_processing,
            decoding=chosen.decoding,
        )
    members = []
    for name in configurations:
        plan.configuration(name)
        members.append(Member(name, tuple(folds) or folder.trained_folds(name), 1.0))
    ensemble = Ensemble(members=tuple(members))
    return replace(ensemble, decoding=_usual(ensemble, plan))


def _usual(ensemble: Ensemble, plan: Plan) -> Decoding:
    """How configurations that were chosen by hand decide on names."""
    if can_name_columns(ensemble, plan):
        return "sequence"
    naming = any(plan.configuration(member.configuration).tells_levels for member in ensemble.members)
    return "argmax" if naming else "clusters"


def _possible(decoding: Decoding, ensemble: Ensemble, plan: Plan) -> Decoding:
    if decoding == "sequence" and not can_name_columns(ensemble, plan):
        raise UsageError(
            f"None of {ensemble.name} has learnt to name columns.",
            remedy="Use --naming argmax, or a 3D configuration of the planner spine.",
        )
    return decoding


def _require_trained(folder: RunFolder, member: Member) -> None:
    missing = [f for f in member.folds if not folder.weights(member.configuration, f).is_file()]
    if missing or not member.folds:
        what = f"fold {missing[0]} of {member.configuration}" if missing else member.configuration
        raise UsageError(f"There are no weights of {what}.", where=folder.root, remedy="Train it first.")
