"""Bodies and arches of vertebrae, told apart by their shapes on sagittal planes: a 2-means of components.

After Altini et al. (Informatics 2021, 8(2):40): open the mask, describe every connected component by its
size, place and shape, and part them by 2-means; the cluster of the larger total area are the bodies. Three
things are ours: place is measured from the spine's curve, a component that stands in the row of the bodies is
one of them whatever its shape, and bodies that touch are cut where the row is thin.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.cluster.vq import ClusterError, kmeans2
from skimage.measure import regionprops

from autospine.core.geometry import FloatArray
from autospine.vertebrae.curved_planes import CurvedPlanes


@dataclass(frozen=True, eq=False)
class Part:
    """A connected piece of a mask on one plane.

    Args:
        plane: Which plane.
        rows: Of its pixels, (n,).
        columns: Likewise.
        along: How far along the spine's curve its pixels lie, mm, (n,).
        behind: How far behind the curve, mm, (n,).
        shape: Extent, eccentricity, solidity, and perimeter over the root of the area; no units.
    """

    plane: int
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    along: FloatArray
    behind: FloatArray
    shape: tuple[float, ...] = ()

    @property
    def area(self):
        return len(self.rows)

    @cached_property
    def middle(self):
        return float(self.along.mean()), float(self.behind.mean())

    def subset(self, keep):
        return Part(
            self.plane, self.rows[keep], self.columns[keep], self.along[keep], self.behind[keep], self.shape
        )

    def joined(self, o):
        c = np.concatenate
        return Part(
            self.plane,
            c([self.rows, o.rows]),
            c([self.columns, o.columns]),
            c([self.along, o.along]),
            c([self.behind, o.behind]),
            self.shape,
        )


DISK = np.hypot(*np.mgrid[-2:3, -2:3]) <= 2


def parts_of(planes: CurvedPlanes, k: int, px, least=20.0):
    op = ndimage.binary_opening(planes.masks[k], DISK)
    lab, _ = ndimage.label(op)
    out = []
    for r in regionprops(lab):
        if r.area * px * px < least:
            continue
        c = r.coords
        al = planes.along[c[:, 0], c[:, 1]]
        be = planes.behind[c[:, 0], c[:, 1]]
        out.append(
            Part(
                k,
                c[:, 0],
                c[:, 1],
                al,
                be,
                (r.extent, r.eccentricity, r.solidity, r.perimeter / np.sqrt(r.area)),
            )
        )
    return out


def two_means(parts, seed=0):
    """True for bodies."""
    n = len(parts)
    if n < 2:
        return np.ones(n, bool)
    f = np.array([[np.log(p.area), p.middle[1], *p.shape] for p in parts])
    sd = f.std(0)
    if not (sd > 1e-6).any():
        return np.ones(n, bool)
    f = (f - f.mean(0)) / np.where(sd > 1e-6, sd, 1)
    best = None
    for t in range(3):
        try:
            c, l = kmeans2(f, 2, minit="++", rng=np.random.default_rng(seed + t), missing="raise")
        except ClusterError:
            continue
        cost = ((f - c[l]) ** 2).sum()
        if best is None or cost < best[0]:
            best = (cost, l)
    if best is None:
        return np.ones(n, bool)
    l = best[1]
    a = np.bincount(l, [p.area for p in parts], 2)
    return l == a.argmax()
