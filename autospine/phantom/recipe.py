"""What kind of scans to draw: fields of view, voxel sizes, anomaly rates, image quality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

FieldOfView = Literal["lumbar", "thoracolumbar", "thoracic", "cervical", "full", "any"]
Range = tuple[float, float]


@dataclass(frozen=True)
class Recipe:
    """The population phantoms are drawn from; a range is drawn from evenly.

    Args:
        field_of_view: The part of the column in view, drawn evenly per scan if there are several; ``"any"``
            draws from all, lumbar scans twice as often as rare ones.
        spacing: Finest voxel edge in mm; drawn evenly on a logarithmic scale.
        anisotropy: Coarsest over finest voxel edge; 1 makes isotropic scans.
        width: Field of view left to right in mm.
        front: How far the view reaches in front of the vertebral bodies' centres, mm.
        back: How far it reaches behind them, mm.
        max_voxels: Larger scans are drawn on a coarser grid.
        orientations: Array axis codes such as ``"SPL"`` to choose from (the letters name the directions
            in which the array's z, y, x indices grow); empty means all 48.
        oblique: Largest tilt of the grid around each axis, degrees.
        curvature: Factor on the usual lordosis and kyphosis.
        scoliosis: Largest Cobb-like lateral tilt, degrees; each patient draws a share of it.
        extra_lumbar: Share of patients with an L6.
        extra_thoracic: Share with a T13.
        missing_thoracic: Share without a T12.
        fractures: Share of the vertebrae T4..L5 that are compressed.
        implants: Share of patients with pedicle screws and rods.
        osteoporosis: Marrow density in HU, from the weakest to the densest bone.
        noise: Standard deviation in HU on a 1 mm grid.
        sharpness: Reconstruction kernel, from 0 (smooth) to 1 (sharp, edge-enhancing).
        series: Share of the patients that are scanned twice.
        cut_circle: Share of scans whose corners outside the scanner's round field are filled with -1024.
    """

    field_of_view: FieldOfView | tuple[FieldOfView, ...] = "any"
    spacing: Range = (0.5, 3.0)
    anisotropy: Range = (1.0, 4.0)
    width: Range = (90.0, 260.0)
    front: Range = (35.0, 110.0)
    back: Range = (75.0, 115.0)
    max_voxels: int = 12_000_000
    orientations: tuple[str, ...] = ()
    oblique: float = 12.0
    curvature: Range = (0.5, 1.3)
    scoliosis: float = 25.0
    extra_lumbar: float = 0.06
    extra_thoracic: float = 0.03
    missing_thoracic: float = 0.03
    fractures: float = 0.12
    implants: float = 0.03
    osteoporosis: Range = (60.0, 260.0)
    noise: Range = (8.0, 60.0)
    sharpness: Range = (0.0, 1.0)
    series: float = 0.1
    cut_circle: float = 0.15


#: Everything the clinic sends: all regions, voxel sizes, orientations and rare variants.
DEFAULT: Final = Recipe()

#: Small lumbar scans just below 4 mm, where a CPU plan works: a laptop learns them in minutes.
DEMO: Final = Recipe(
    field_of_view="lumbar",
    spacing=(3.4, 4.0),
    anisotropy=(1.0, 1.15),
    width=(100.0, 130.0),
    front=(35.0, 60.0),
    back=(75.0, 95.0),
    oblique=6.0,
    curvature=(0.7, 1.2),
    scoliosis=8.0,
    extra_lumbar=0.0,
    extra_thoracic=0.0,
    missing_thoracic=0.0,
    fractures=0.05,
    implants=0.0,
    osteoporosis=(150.0, 240.0),
    noise=(6.0, 20.0),
    cut_circle=0.0,
)

RECIPES: Final = {"default": DEFAULT, "demo": DEMO}
