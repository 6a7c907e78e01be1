"""The solids a vertebra is made of, in its own frame: body first, then arch and processes.

Distances follow the usual descriptions of each region: long square spinous processes and sagittal facets
in the loins, overlapping drooping processes and coronal facets in the chest, articular pillars,
foramina beside the body and bifid processes in the neck, a ring for C1 and a dens on C2.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np

from autospine.core import anatomy
from autospine.phantom.patient import Vertebra
from autospine.phantom.shapes import Body, Capsule, Ellipsoid, Part, Plate, Shape, mirrored

#: Width and depth of the vertebral canal, mm.
_CANAL: Final[dict[str, tuple[float, float]]] = {
    "cervical": (23.0, 14.5),
    "thoracic": (17.0, 15.5),
    "lumbar": (22.0, 16.0),
}
#: Distance of the transverse processes' tips from the midline, mm.
_LUMBAR_SPAN: Final = {"L1": 37.0, "L2": 41.0, "L3": 47.0, "L4": 44.0, "L5": 46.0, "L6": 47.0}


def solids(vertebra: Vertebra, size: float) -> tuple[Shape, ...]:
    """All parts of a vertebra, its body first (for C1: its anterior arch).

    Args:
        vertebra: Which one.
        size: The patient's factor on all lengths.
    """
    if vertebra.name == "C1":
        return atlas(size)
    region = anatomy.region_of(vertebra.label)
    arch = {"cervical": _cervical, "thoracic": _thoracic, "lumbar": _lumbar}[region](vertebra, size)
    return (body(vertebra), *arch)


def body(vertebra: Vertebra) -> Body:
    """The vertebral body, compressed where the vertebra is fractured."""
    cervical = anatomy.region_of(vertebra.label) == "cervical"
    hollow = 0.05 * vertebra.height
    if vertebra.compression == "biconcave":
        hollow += 0.5 * vertebra.loss * vertebra.height
    return Body(
        height=vertebra.height,
        width=vertebra.width,
        depth=vertebra.depth,
        waist=vertebra.waist * (0.4 if cervical else 1.0),
        hollow=hollow,
        wedge=vertebra.loss if vertebra.compression == "wedge" else 0.0,
        uncus=3.0 if cervical and vertebra.name != "C2" else 0.0,
    )


def canal(vertebra: Vertebra, size: float) -> tuple[float, float, float]:
    """Width and depth of the vertebral canal and the y of its centre in the vertebra's frame, mm."""
    width, depth = (size * v for v in _CANAL[anatomy.region_of(vertebra.label)])
    return width, depth, vertebra.depth / 2 + depth / 2


def atlas(size: float) -> tuple[Part, ...]:
    """The ring of C1 around the dens; its frame's origin lies in the anterior arch."""
    s = size
    turns = np.radians(np.linspace(0, 180, 9))
    ring = [(19 * s * np.sin(t), (14 - 16.5 * np.cos(t)) * s, (2.0 if t > 1.6 else 0.0) * s) for t in turns]
    arch = tuple(Capsule(a, b, 2.9 * s, 2.9 * s) for a, b in pairwise(ring))
    mass = Ellipsoid((18 * s, 10 * s, 0.0), (7.5 * s, 9 * s, 8 * s))
    process = Capsule((23 * s, 12 * s, -1 * s), (37 * s, 14 * s, -2 * s), 3.6 * s, 3.2 * s)
    tubercle = Ellipsoid((0.0, -2.0 * s, 0.0), (5 * s, 3.6 * s, 5.5 * s))
    return (tubercle, *mirrored((*arch, mass, process)))


def _cervical(v: Vertebra, size: float) -> tuple[Part, ...]:
    s, b, w = size, v.depth / 2, v.width / 2
    wide, deep, _ = canal(v, size)
    pillar_x, pillar_y = wide / 2 + 5.0 * s, b + 5.0 * s
    pillar = v.height + v.disc - 1.0
    tip = (w + 13 * s, b - 2 * s, -2.0 * s)
    parts: tuple[Part, ...] = (
        Capsule((w - 2 * s, b - 2 * s, 1.0), (pillar_x, pillar_y, 1.0), 2.8 * s, 3.2 * s),
        # The articular pillar leans back as it rises, its joints slant like roof tiles.
        Plate((pillar_x, pillar_y - 6 * s, 1.0), (pillar_x, pillar_y + 5 * s, -3.0), pillar, 10 * s),
        Capsule((w - 2 * s, 0.0, -1.0), tip, 2.0 * s, 2.2 * s),
        Capsule((pillar_x, pillar_y - 3 * s, -1.0), tip, 2.2 * s, 2.2 * s),
        Plate((pillar_x, pillar_y + 3 * s, -1.0), (1.0, b + deep + 1.5 * s, -4.0), 10 * s, 3.6 * s),
    )
    axis: tuple[Part, ...] = ()
    if v.name == "C2":
        axis = _dens(v, s)
        reach, height, droop, split = 17.0, 13.0, 8.0, 4.5
    else:
        reach, height, droop, split = {
            "C7": (31.0, 9.0, 11.0, 0.0),
            "C6": (23.0, 8.0, 10.0, 2.5),
        }.get(v.name, (14.0, 7.0, 7.0, 4.0))
    base = (0.0, b + deep + 1.0, -4.0)
    end = (v.lean, b + deep + reach * s * v.processes, -4 - droop * s)
    spine: tuple[Part, ...] = (Plate(base, end, height * s, 4.2 * s),)
    fork = mirrored(
        (Capsule((0.0, end[1] - 5 * s, end[2]), (split * s, end[1] + 2, end[2] - 2), 2.6 * s, 3 * s),)
    )
    return (*axis, *mirrored(parts), *spine, *fork)


def _dens(v: Vertebra, s: float) -> tuple[Part, ...]:
    top = v.height / 2
    facet = Ellipsoid((14 * s, 1.0, top - 1 * s), (8 * s, 8.5 * s, 5 * s))
    dens = Capsule((0.0, 0.0, top - 6), (0.0, 1.0, top + 14 * s), 6.0 * s, 4.6 * s)
    return (dens, *mirrored((facet,)))


def _thoracic(v: Vertebra, size: float) -> tuple[Part, ...]:
    s, b, h = size, v.depth / 2, v.height
    wide, deep, _ = canal(v, size)
    rank = min(anatomy.rank_of(v.label) - 6, 12)  # 1 for T1
    pedicle = np.interp(rank, (1, 4, 8, 12), (8.0, 5.0, 6.0, 8.5)) * s
    span = np.interp(rank, (1, 3, 10, 12), (37.0, 31.0, 26.0, 21.0)) * s * v.processes
    sweep = np.interp(rank, (1, 8, 12), (9.0, 17.0, 13.0)) * s
    droop = np.interp(rank, (1, 4, 7, 10, 12), (9.0, 20.0, 27.0, 17.0, 6.0)) * s
    reach = np.interp(rank, (1, 6, 9, 12), (33.0, 27.0, 27.0, 29.0)) * s * v.processes
    tall = np.interp(rank, (1, 6, 9, 11, 12), (9.0, 9.0, 11.0, 17.0, 19.0)) * s
    x, roof = wide / 2 + 1.5 * s, b + deep
    pitch = h + v.disc
    parts: tuple[Part, ...] = (
        Plate(
            (wide / 2 + pedicle / 2, b - 4, 0.22 * h),
            (wide / 2 + pedicle / 2, b + 8 * s, 0.22 * h),
            0.6 * h,
            pedicle,
        ),
        Capsule((x + 2, b + 9 * s, 2.0), (float(span), float(b + 9 * s + sweep), 4.0 * s), 5.0 * s, 4.4 * s),
        Capsule((x, b + 8 * s, 0.1 * h), (x, b + 8.5 * s, 0.68 * pitch), 4.4 * s, 3.2 * s),
        Capsule((x - 1, b + 12 * s, -0.1 * h), (x - 1, b + 14.5 * s, -0.62 * pitch), 4.4 * s, 3.0 * s),
        Plate((x, b + 10.5 * s, -0.15 * h), (0.0, roof + 2.5 * s, -0.3 * h), 0.85 * h, 5.0 * s),
    )
    base = (0.0, float(roof + 2 * s), float(-0.25 * h))
    end = (v.lean, float(roof + reach), float(-0.2 * h - droop))
    knob = Ellipsoid(end, (3.6 * s, 4 * s, float(tall) / 2 * 1.05))
    return (*mirrored(parts), Plate(base, end, float(tall), 4.6 * s), knob)


def _lumbar(v: Vertebra, size: float) -> tuple[Part, ...]:
    s, b, h, w = size, v.depth / 2, v.height, v.width / 2
    wide, deep, _ = canal(v, size)
    rank = anatomy.rank_of(v.label) - anatomy.rank_of(anatomy.label_of("L1"))
    pedicle = np.interp(rank, (0, 3, 4), (8.0, 12.0, 16.0)) * s
    spread = np.interp(rank, (0, 4), (0.0, 5.0)) * s
    span = _LUMBAR_SPAN[v.name] * s * v.processes
    reach = np.interp(rank, (0, 2, 4, 5), (29.0, 33.0, 24.0, 20.0)) * s * v.processes
    tall = np.interp(rank, (0, 2, 4), (21.0, 23.0, 15.0)) * s
    roof, pitch = b + deep, h + v.disc
    x_up, x_down = float(wide / 2 + 6.5 * s + spread), float(wide / 2 + spread - 1.5 * s)
    x_pedicle = float(wide / 2 + pedicle / 2 - 1)
    parts: tuple[Part, ...] = (
        Plate((x_pedicle, b - 5, 0.18 * h), (x_pedicle, b + 9 * s, 0.18 * h), 15 * s, float(pedicle)),
        Capsule((x_up - 1, b + 10 * s, 0.1 * h), (x_up, b + 10 * s, 0.66 * pitch), 5.6 * s, 4.0 * s),
        Capsule((x_up - 3, b + 12 * s, 0.1 * h), (x_down, b + 17 * s, -0.25 * h), 5.4 * s, 5.2 * s),
        Capsule((x_down, b + 17 * s, -0.25 * h), (x_down, b + 17 * s, -0.72 * pitch), 5.2 * s, 4.4 * s),
        Plate((x_down, b + 16 * s, -0.2 * h), (0.0, roof + 5 * s, -0.3 * h), 0.72 * h, 6.0 * s),
        Capsule((x_up - 3, b + 9 * s, 0.12 * h), (span, b + 13 * s, 0.2 * h), 5.6 * s, 3.2 * s),
    )
    if rank >= 4:  # the last lumbar vertebrae have stout, triangular transverse processes
        parts = (*parts, Ellipsoid((w + 4 * s, b + 4 * s, 0.1 * h), (12 * s, 9 * s, 9 * s)))
    base, end = (0.0, roof + 4 * s, -0.3 * h), (v.lean, float(roof + reach), float(-0.3 * h - 5 * s))
    knob = Ellipsoid((v.lean, end[1] - 2, end[2]), (4.4 * s, 5 * s, float(tall) / 2))
    return (*mirrored(parts), Plate(base, end, float(tall), 5.6 * s), knob)
