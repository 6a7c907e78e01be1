"""Training a system on one phantom, and asking it about the same one: what learns at all learns this."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from autospine import pipeline
from autospine.core.plan import Augmentation, Budget
from autospine.evaluation.overlap import overlaps
from autospine.inference.predictor import Predictor
from autospine.io.images import read_image, read_labels
from autospine.planning import PlanOptions, plan_for
from autospine.registry import find
from autospine.reporting import Reporter
from autospine.splits import Fold, Splits

#: Nothing changes the one phantom.
PLAIN = Augmentation(
    **{name: 0.0 for name in Augmentation.__dataclass_fields__ if name.endswith("_probability")}
)
BUDGET = Budget("cpu", cores=2, step_seconds=0.12)


class Overfitted:
    """A system's stages, trained one after the other on the only case of a data set."""

    def __init__(self, dataset: Path, folder: Path, system: str, steps: int, **schedule):
        self.run = pipeline.Run.open(folder, Reporter(quiet=True), dataset, workers=1)
        fingerprint = pipeline.make_fingerprint(self.run)
        self.case = fingerprint.cases[0].identifier
        plan = plan_for(fingerprint, PlanOptions("spine", BUDGET, (system,)))
        brief = tuple(self._brief(c, steps, schedule) for c in plan.configurations)
        self.plan = replace(plan, configurations=brief)
        pipeline.documents.save(self.run.folder.plan, self.plan)
        self.splits = Splits((Fold((self.case,), (self.case,)),))
        pipeline.preprocess(self.run, self.plan)
        for configuration in brief:
            self._train(configuration)

    @staticmethod
    def _brief(configuration, steps, changes):
        schedule = configuration.schedule
        pretraining = replace(schedule.pretraining, epochs=min(2, schedule.pretraining.epochs), steps=20)
        schedule = replace(
            schedule,
            epochs=4,
            steps=steps // 4,
            validation_steps=0,
            warmup_steps=10,
            workers=1,
            augmentation=PLAIN,
            pretraining=pretraining,
            **changes,
        )
        return replace(configuration, schedule=schedule)

    def _train(self, configuration):
        if configuration.previous_stage:
            pipeline.hand_over(self.run, self.plan, self.splits, configuration)
        task = pipeline.fold_task(self.run, self.plan, self.splits, configuration, 0, "cpu")
        find("trainers", configuration.trainer)(task)

    @property
    def configuration(self):
        """The last stage."""
        return self.plan.configurations[-1]

    @property
    def reference(self):
        """The case's mask."""
        (case,) = self.run.dataset.training
        return read_labels(case.label)

    def validation_mask(self):
        """What the trainer has predicted for its validation case."""
        folder = self.run.folder.validation(self.configuration.name, 0)
        return read_labels(folder / f"{self.case}.nii.gz").array[0]

    def predicted(self):
        """What the stored weights predict for the scan, voxel by voxel."""
        (case,) = self.run.dataset.training
        decoding = "argmax" if self.configuration.tells_levels else None
        predictor = Predictor.open(
            self.run.folder, "cpu", configurations=(self.configuration.name,), decoding=decoding
        )
        return predictor.predict(read_image(case.image)).labels

    def share_that_differs(self, first, second):
        """Of the voxels of two masks; of all vertebrae as one where the network does not know levels."""
        if self.configuration.target == "foreground":
            first, second = first > 0, second > 0
        return np.count_nonzero(first != second) / first.size

    def dice(self, mask):
        """Mean Dice over the levels, or of all vertebrae as one where the network does not know levels."""
        reference = self.reference.array[0]
        if self.configuration.target == "foreground":
            found, true = mask > 0, reference > 0
            return 2 * np.count_nonzero(found & true) / (np.count_nonzero(found) + np.count_nonzero(true))
        counts = overlaps(mask, reference, self.plan.labels.foreground, self.plan.labels.ignore)
        return float(np.mean([o.dice for o in counts.values() if o.reference]))
