"""An interactive session: images once, then clicks and scribbles one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from ..case.file_grid import FileGrid
from ..case.geometry import Box, Geometry, Vector
from ..case.images import Image, image_of, to_sitk, write_image
from ..case.pet_ct_scan import PetCtFiles, PetCtScan, make_pet_ct, read_pet_ct
from ..case.suv_checks import InjectedDose
from ..case.tumor_clicks import ClickKind, TumorClick, click_kind
from ..case.voxel_checks import checked_grid, checked_triple, checked_voxels
from ..errors import InputError
from .false_alarm_rules import FalseAlarmRules
from .load_pet_ct import PetCtModel
from .scan_segmenter import ScanSegmenter

DEFAULT_MEMORY_MIB = 4096

_EXPECTED_POINT = "three finite numbers, a voxel index (z, y, x)"


class Session:
    """Segments one PET/CT after the other, click by click.

    After each change the mask equals that of a run from the start with the same clicks, bit for bit, on the
    CPU, or on a GPU with a model that is deterministic. Arrays, points and boxes have the axes of the CT as
    it was given.

    Args:
        model: from `load_pet_ct_model`.
        memory_mib: for predictions of tiles that are kept, 4 bytes per voxel of a patch: those of the present
            clicks first, then earlier ones for `undo`. With less, clicks take longer, up to a whole run.
        rules: against false alarms, applied to the mask after each change; all off by default.

    Raises:
        InputError: an argument of another type.
    """

    def __init__(
        self,
        model: PetCtModel,
        *,
        memory_mib: float = DEFAULT_MEMORY_MIB,
        rules: FalseAlarmRules | None = None,
    ) -> None:
        if not isinstance(model, PetCtModel):
            raise InputError(
                f"model: is a {type(model).__name__}; expected one for PET/CT, from load_pet_ct_model"
            )
        if not memory_mib >= 0:
            raise InputError(f"memory_mib: is {memory_mib}; expected 0 or more")
        self._model = model
        self._memory_bytes = int(memory_mib * (1 << 20))
        self._rules = rules or FalseAlarmRules()
        self._segmenter: ScanSegmenter | None = None
        self._grid: FileGrid | None = None
        self._scan_warnings: tuple[str, ...] = ()
        self._steps: tuple[tuple[TumorClick, ...], ...] = ()
        self._changed: Box | None = None

    def set_images(
        self,
        ct: str | Path | sitk.Image | npt.ArrayLike,
        pet: str | Path | sitk.Image | npt.ArrayLike,
        *,
        spacing_zyx: Sequence[float] | None = None,
        dose: InjectedDose | None = None,
    ) -> Session:
        """Begin with new images, without clicks, and segment them.

        Args:
            ct: HU: a file, a SimpleITK image, or an array (z, y, x).
            pet: SUV, or Bq/ml with a dose; given like the CT. An array has the CT's shape; a file or an image
                may lie on another grid and is resampled to the CT's.
            spacing_zyx: mm (z, y, x), of arrays alone.
            dose: of a PET in Bq/ml.

        Returns:
            The session itself.

        Raises:
            InputError: an image cannot be used; the session is as before then.
            LongilesionError: as `segment_pet_ct`; the session is as before then.
        """
        return self.set_scan(_scan(ct, pet, spacing_zyx, dose))

    def set_scan(self, scan: PetCtScan) -> Session:
        """Begin with a scan that has been read, and with its clicks.

        Args:
            scan: from `read_pet_ct`; each of its clicks can be undone.

        Returns:
            The session itself.

        Raises:
            LongilesionError: as `segment_pet_ct`; the session is as before then.
        """
        segmenter = ScanSegmenter(
            self._model, scan.ct, scan.pet, scan.geometry, self._memory_bytes, self._rules
        )
        self._changed = segmenter.update(scan.clicks)
        self._segmenter, self._grid, self._scan_warnings = segmenter, scan.file_grid, scan.warnings
        self._steps = tuple((click,) for click in scan.clicks)
        return self

    def add_click(self, point_zyx: Sequence[float], kind: str) -> None:
        """Add a click and bring the mask up to date.

        Args:
            point_zyx: voxel index (z, y, x), may be a fraction. One up to 5 mm outside of the CT is moved to
                its border, one further out is left out; `warnings` say so.
            kind: ``tumor`` or ``background``.

        Raises:
            InputError: no images yet, or an argument that cannot be used; the session is as before then.
            LongilesionError: as `segment_pet_ct`; the session is as before then.
        """
        self.add_scribble([point_zyx], kind)

    def add_scribble(self, points_zyx: Iterable[Sequence[float]], kind: str) -> None:
        """Add the points of a drawn line, each of which counts as a click, as one step.

        The published networks were trained with clicks alone.

        Args:
            points_zyx: voxel indices (z, y, x), as for `add_click`.
            kind: ``tumor`` or ``background``.

        Raises:
            InputError, LongilesionError: as `add_click`.
        """
        segmenter, grid = self._state()
        chosen = click_kind(kind) if isinstance(kind, str) else None
        if chosen is None:
            raise InputError(f"kind: is {kind!r}; expected {' or '.join(ClickKind)}")
        points = [checked_triple("point", point, _EXPECTED_POINT) for point in points_zyx]
        step = tuple(TumorClick(chosen, grid.axial_point(point)) for point in points)
        self._take(segmenter, (*self._steps, step) if step else self._steps)

    def undo(self) -> bool:
        """Take back the last click or scribble.

        Returns:
            False if no click is left.

        Raises:
            InputError: no images yet.
            LongilesionError: as `segment_pet_ct`; the session is as before then.
        """
        segmenter, _ = self._state()
        if not self._steps:
            self._changed = None
            return False
        self._take(segmenter, self._steps[:-1])
        return True

    def _take(self, segmenter: ScanSegmenter, steps: tuple[tuple[TumorClick, ...], ...]) -> None:
        self._changed = segmenter.update([click for step in steps for click in step])
        self._steps = steps

    def _state(self) -> tuple[ScanSegmenter, FileGrid]:
        if self._segmenter is None or self._grid is None:
            raise InputError("session: has no images yet; expected set_images first")
        return self._segmenter, self._grid

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """All tumour, booleans (z, y, x) of the CT's shape, read-only; later clicks make a new array."""
        segmenter, grid = self._state()
        return grid.file_labels(segmenter.mask.view(np.uint8)).view(np.bool_)

    @property
    def changed_box(self) -> Box | None:
        """The box (z, y, x) around all voxels of the mask that the last change changed; None without any.

        After `set_images` it is that of all tumour. ``mask[changed_box.slices]`` are the mask's voxels in it.
        """
        _, grid = self._state()
        if self._changed is None:
            return None
        return grid.file_box(self._changed).intersection(Box.of_shape(grid.geometry.shape_zyx))

    @property
    def clicks(self) -> tuple[TumorClick, ...]:
        """All clicks and points of scribbles in their order, voxel indices (z, y, x)."""
        _, grid = self._state()
        return tuple(
            replace(click, point_zyx=grid.file_point(click.point_zyx))
            for step in self._steps
            for click in step
        )

    @property
    def steps(self) -> int:
        """Clicks and scribbles that can be undone."""
        return len(self._steps)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about model, images and current clicks."""
        segmenter, _ = self._state()
        return (*self._model.warnings, *self._scan_warnings, *segmenter.warnings)

    @property
    def volume_ml(self) -> float:
        """Volume of all tumour."""
        segmenter, grid = self._state()
        return int(np.count_nonzero(segmenter.mask)) * grid.axial.voxel_volume_ml

    @property
    def predicted_tiles(self) -> tuple[int, int]:
        """Tiles that the last change predicted, and tiles of a whole run."""
        segmenter, _ = self._state()
        return segmenter.predicted_tiles, segmenter.tile_count

    @property
    def spacing_zyx(self) -> Vector:
        """Voxel size in mm along the axes of ``mask``."""
        _, grid = self._state()
        return grid.geometry.spacing_zyx

    def voxel_of(self, point_mm: Sequence[float]) -> Vector:
        """The voxel index of a position, for `add_click`.

        Args:
            point_mm: LPS mm (x, y, z).

        Returns:
            Voxel index (z, y, x) of the CT, may be a fraction.
        """
        _, grid = self._state()
        return grid.file_point(grid.axial_world_point(point_mm))

    def write_mask(self, path: Path) -> None:
        """Write the mask (0, 1; uint8) on the grid of the CT, verified.

        Args:
            path: the file; its suffix gives the format.

        Raises:
            OutputError: it cannot be written, or does not read back as it was written.
        """
        _, grid = self._state()
        write_image(path, self.mask.astype(np.uint8), grid.geometry)

    def to_image(self) -> sitk.Image:
        """The mask (0, 1; uint8) as a SimpleITK image on the grid of the CT."""
        _, grid = self._state()
        return to_sitk(self.mask.astype(np.uint8), grid.geometry)


def _scan(ct: Any, pet: Any, spacing_zyx: Sequence[float] | None, dose: InjectedDose | None) -> PetCtScan:
    """Read files, or take images or arrays."""
    kinds = [_kind_of(image) for image in (ct, pet)]
    if kinds[0] != kinds[1]:
        raise InputError(f"pet: is {kinds[1]}, but the CT is {kinds[0]}; expected the same kind")
    if kinds[0] != "an array" and spacing_zyx is not None:
        raise InputError(f"spacing_zyx: is given, but the CT is {kinds[0]}, which has its own; expected none")
    if kinds[0] == "a file":
        return read_pet_ct(PetCtFiles(Path(ct), Path(pet)), dose=dose)
    if kinds[0] == "an image":
        return make_pet_ct(image_of("ct", ct), image_of("pet", pet), dose)
    voxels = checked_voxels("ct", ct), checked_voxels("pet", pet)
    if voxels[0].shape != voxels[1].shape:
        raise InputError(f"pet: has the shape {voxels[1].shape}; expected {voxels[0].shape}, that of the CT")
    geometry = _array_grid(voxels[0].shape, spacing_zyx)
    return make_pet_ct(Image(voxels[0], geometry), Image(voxels[1], geometry), dose)


def _kind_of(image: Any) -> str:
    if isinstance(image, str | Path):
        return "a file"
    return "an image" if isinstance(image, sitk.Image) else "an array"


def _array_grid(shape: tuple[int, ...], spacing_zyx: Sequence[float] | None) -> Geometry:
    if spacing_zyx is None:
        raise InputError("spacing_zyx: is missing; expected mm (z, y, x) with arrays")
    z, y, x = shape
    origin: Vector = (0.0, 0.0, 0.0)
    return checked_grid((z, y, x), spacing_zyx, origin, np.eye(3))
