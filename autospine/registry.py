"""The one table of plug-ins, and how other people's are found.

A plug-in is a typed function; nothing is inherited. Built-ins stand in ``BUILT_IN``; others come from
installed entry points (``autospine.planners``, ``autospine.systems``, ``autospine.trainers``,
``autospine.pretrainers``, ``autospine.networks``, ``autospine.datasets``) or from a file, as
``./mine.py:plan``.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal

from autospine.core.errors import UnknownPluginError

Kind = Literal["planners", "systems", "trainers", "pretrainers", "networks", "datasets"]

BUILT_IN: Final[Mapping[Kind, Mapping[str, str]]] = {
    "planners": {
        "spine": "autospine.planners.spine:plan",
        "nnunet": "autospine.planners.nnunet:plan",
        "nnunet_resenc_m": "autospine.planners.nnunet:plan_resenc_m",
        "nnunet_resenc_l": "autospine.planners.nnunet:plan_resenc_l",
        "nnunet_resenc_xl": "autospine.planners.nnunet:plan_resenc_xl",
    },
    "systems": {
        "ssae": "autospine.planners.systems.patch_classifiers:SSAE",
        "svseg": "autospine.planners.systems.patch_classifiers:SVSEG",
        "padbn": "autospine.planners.systems.patch_classifiers:PADBN",
        "caeb7_unet": "autospine.planners.systems.caeb7_unet:CAEB7_UNET",
        "segnet": "autospine.planners.systems.segnet:SEGNET",
        "chaspprau_net": "autospine.planners.systems.chaspprau_net:CHASPPRAU_NET",
        "mru_net": "autospine.planners.systems.chaspprau_net:MRU_NET",
        "unbalanced_unet": "autospine.planners.systems.unbalanced_unet:UNBALANCED_UNET",
        "dense_unet_2stage": "autospine.planners.systems.dense_unet_2stage:DENSE_UNET_2STAGE",
        "kmeans_knn": "autospine.planners.systems.kmeans_knn:KMEANS_KNN",
        "locate_then_segment": "autospine.planners.systems.locate_then_segment:LOCATE_THEN_SEGMENT",
        "iterative": "autospine.planners.systems.iterative:ITERATIVE",
    },
    "trainers": {"default": "autospine.trainers.default:train"},
    "pretrainers": {
        "sparse_autoencoder": "autospine.trainers.sparse_autoencoder:pretrain",
        "contrastive_divergence": "autospine.trainers.boltzmann:pretrain",
    },
    "networks": {
        "plain_unet": "autospine.networks.unet:plain_unet",
        "residual_unet": "autospine.networks.unet:residual_unet",
        "unbalanced_unet": "autospine.networks.unbalanced_unet:unbalanced_unet",
        "chaspprau_net": "autospine.networks.chaspprau_net:chaspprau_net",
        "mru_net": "autospine.networks.mru_net:mru_net",
        "efficientnet_unet": "autospine.networks.efficientnet_unet:efficientnet_unet",
        "segnet": "autospine.networks.segnet:segnet",
        "dense_unet": "autospine.networks.dense_unet:dense_unet",
        "vnet": "autospine.networks.vnet:vnet",
        "patch_mlp": "autospine.networks.patch_mlp:patch_mlp",
    },
    "datasets": {
        "verse": "autospine.dataset_conversion.verse:convert",
        "xvertseg": "autospine.dataset_conversion.xvertseg:convert",
    },
}


def names(kind: Kind) -> list[str]:
    """Names of all plug-ins of a kind, built-in and installed."""
    installed = {point.name for point in entry_points(group=f"autospine.{kind}")}
    return sorted(set(BUILT_IN[kind]) | installed)


def find(kind: Kind, name: str) -> Callable[..., Any]:
    """The plug-in called ``name``, or the function of a file given as ``path.py:function``.

    Raises:
        UnknownPluginError: There is no such plug-in, file or function.
    """
    if name in BUILT_IN[kind]:
        module, _, function = BUILT_IN[kind][name].partition(":")
        return _function(importlib.import_module(module), function, name)
    for point in entry_points(group=f"autospine.{kind}"):
        if point.name == name:
            loaded: Callable[..., Any] = point.load()
            return loaded
    if ".py:" in name:
        file, _, function = name.rpartition(":")
        return _function(_load_file(Path(file)), function, name)
    near = difflib.get_close_matches(name, names(kind), n=3, cutoff=0.4) or names(kind)
    raise UnknownPluginError(
        f"There is no {kind[:-1]} called {name!r}.", remedy=f"Did you mean {' or '.join(near)}?"
    )


def _load_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"autospine_plugin_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise UnknownPluginError("There is no such plug-in file.", where=path, remedy="Check the path.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look for a class's module there
    spec.loader.exec_module(module)
    return module


def _function(module: ModuleType, function: str, name: str) -> Callable[..., Any]:
    found = getattr(module, function, None)
    if not callable(found):
        raise UnknownPluginError(f"{name} names no function of {module.__name__}.")
    result: Callable[..., Any] = found
    return result
