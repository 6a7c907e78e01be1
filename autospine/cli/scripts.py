"""Every command as a script of its own: ``autospine_predict`` is ``autospine predict``."""

from __future__ import annotations

from functools import partial

from autospine.cli.main import main

convert_verse = partial(main, command="convert-verse")
convert_xvertseg = partial(main, command="convert-xvertseg")
demo = partial(main, command="demo")
doctor = partial(main, command="doctor")
ensemble = partial(main, command="ensemble")
evaluate = partial(main, command="evaluate")
export_centroids = partial(main, command="export-centroids")
find_best = partial(main, command="find-best")
fingerprint = partial(main, command="fingerprint")
phantom = partial(main, command="phantom")
plan = partial(main, command="plan")
plan_and_train = partial(main, command="plan-and-train")
predict = partial(main, command="predict")
preprocess = partial(main, command="preprocess")
submit = partial(main, command="submit")
train = partial(main, command="train")
