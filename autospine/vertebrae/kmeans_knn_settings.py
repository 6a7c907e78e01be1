"""Constants of the separation of vertebrae by k-means and k-nearest-neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autospine.core.geometry import FloatArray


@dataclass(frozen=True)
class KMeansKnn:
    """How vertebrae are told apart in a mask of all of them; lengths in mm.

    The opening, the 2-means and the neighbours are those of Altini et al. (Informatics 2021, 8(2):40), who
    use one neighbour; the rest is ours, and was chosen on phantoms with voxels of 1, 2 and 4 mm.

    Args:
        smoothing: Standard deviation of the Gaussian that smooths the spine's curve along the column; the
            height of a vertebra and its disc is 18 to 37 mm.
        reach: The outermost planes run so far left and right of the curve.
        apart: Distance between planes.
        central: Planes up to this far from the curve cross the canal, where bodies and arches are apart.
        pixel: Edge of the planes' pixels.
        opening: What is thinner than twice this radius is cut off on the planes.
        least_body: Smallest area of a body on a plane, mm²; that of C3 measures 200, the front arch of C1 60.
        row: Bodies lie no farther than this in front of or behind the curve that joins them.
        wall: Room left behind the bodies' back walls before pedicles are cut.
        single: A body whose squared length is less than this times its area is one: these have 0.7 to 1.2, C2
            with its dens has 2.2, and two fused ones of the chest have 1.9.
        too_long: From this ratio on, it is likely to be several.
        deep: A single body is cut only where the column's cross-section falls below this share of what it is
            on either side. From ``single`` to ``too_long`` the share rises to ``shallow``.
        shallow: Likewise, of bodies that are too long.
        shallow_slender: Likewise, of slender ones, for the dens is thinner than the body of C2.
        slender: A body that measures less than this from front to back is of the neck.
        centred: Standard deviation of the weights by which planes vote on the number of bodies: bodies of
            the neck are only 17 mm wide.
        thinning: Every so many pixels of the planes one is a training point.
        neighbours: Training points that vote on a voxel.
        arc: What a distance along the curve counts, beside that in space.
        blobs: Standard deviation of the Gaussian that smooths the depth map before it is cut into blobs.
        agreed: Share of a blob's voxels that must agree for the others to follow.
        border: A body nearer than this, or a voxel, to the upper or lower border counts as cut.
    """

    smoothing: float = 20.0
    reach: float = 15.0
    apart: float = 3.0
    central: float = 6.0
    pixel: float = 1.0
    opening: float = 2.0
    least_body: float = 40.0
    row: float = 12.0
    wall: float = 2.0
    single: float = 1.2
    too_long: float = 1.6
    deep: float = 0.5
    shallow: float = 0.95
    shallow_slender: float = 0.9
    slender: float = 18.0
    centred: float = 6.0
    thinning: int = 3
    neighbours: int = 5
    arc: float = 2.0
    blobs: float = 1.5
    agreed: float = 0.67
    border: float = 2.0

    def offsets(self, reach: float) -> FloatArray:
        """How far left of the curve planes run that lie at most ``reach`` mm from it, (k,)."""
        steps = int(reach / self.apart)
        return np.asarray(self.apart * np.arange(-steps, steps + 1), dtype=np.float64)
