"""One PET/CT under changing clicks: its mask and margin, computed again where they may change."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..case.geometry import Array, Box, Geometry
from ..case.labelmaps import bounding_box
from ..case.tumor_clicks import TumorClick
from ..network.pet_ct import click_voxels, margin_on_scan, network_images, pet_ct_grid
from ..network.resample import FloatVolume
from ..network.tiles import enclosing_box
from .false_alarm_rules import FalseAlarmRules
from .false_alarms import apply_rules
from .load_pet_ct import PetCtModel
from .place_clicks import place_clicks, usable_clicks
from .segment_pet_ct import TumorSegmentation
from .window_predictor import WindowPredictor

log = logging.getLogger(__name__)


class ScanSegmenter:
    """All tumour of one PET/CT, kept up to date while clicks come and go.

    Images are normalised and resampled once. After each `update` the result equals that of `segment_pet_ct`
    for the same clicks, bit for bit, after the rules against false alarms that are on.

    Args:
        model: from `load_pet_ct_model`.
        ct: HU (z, y, x) of the axial scan.
        pet: SUV on the same grid.
        geometry: of the axial scan.
        memory_bytes: as for `WindowPredictor`.
        rules: against false alarms.

    Attributes:
        mask: booleans (z, y, x) of the axial scan, read-only; every change makes a new array.
        clicks: those that the last update used.
        warnings: what the user should know of its clicks.
    """

    def __init__(
        self,
        model: PetCtModel,
        ct: Array,
        pet: Array,
        geometry: Geometry,
        memory_bytes: int,
        rules: FalseAlarmRules,
    ) -> None:
        self._model, self._geometry = model, geometry
        self._rules, self._pet = rules, None if rules.are_off else pet
        self._grid = pet_ct_grid(ct, pet, geometry.spacing_zyx, model.plan)
        log.info("network grid %s, cropped from %s", self._grid.shape, ct.shape)
        images = network_images(ct, pet, self._grid, model.plan)
        self._window = WindowPredictor(model, images, memory_bytes)
        back = self._grid.axes.inverse()
        self._box = back.box(self._grid.box, self._grid.axes.triple(self._grid.axial_shape_zyx))
        self._margin: FloatVolume = np.zeros(self._box.shape_zyx, np.float32)
        self._stale: Box | None = None
        self._found: npt.NDArray[np.bool_] = np.zeros(self._grid.axial_shape_zyx, bool)  # by the network
        self.mask = self._found
        self.clicks: tuple[TumorClick, ...] = ()
        self.warnings: tuple[str, ...] = ()

    @property
    def tile_count(self) -> int:
        """Tiles of the sliding window."""
        return len(self._window.tiles)

    @property
    def predicted_tiles(self) -> int:
        """Tiles that the last update predicted."""
        return self._window.predicted

    def update(self, clicks: Sequence[TumorClick]) -> Box | None:
        """Bring mask and margin up to date; after an error they are as before.

        Args:
            clicks: all of them, voxel indices (z, y, x) on the axial scan.

        Returns:
            The box (z, y, x) of the axial scan around all voxels whose mask changed, or None.

        Raises:
            LongilesionError: as `segment_pet_ct`.
        """
        placed, notes = usable_clicks(clicks, self._geometry, self._grid, self._model.takes_clicks)
        region = self._window.update(click_voxels(placed, self._grid))
        if region is not None:
            # If memory runs out below, the next update resamples this region as well.
            self._stale = region if self._stale is None else enclosing_box([self._stale, region])
        changed = self._export(self._stale) if self._stale is not None else None
        self._stale = None
        if self._pet is None:
            self.mask = self._found
        else:
            changed = self._apply_rules(self._pet, clicks, notes)
        for note in notes:
            if note not in self.warnings:
                log.warning("%s", note)
        self.clicks, self.warnings = placed, tuple(notes)
        return changed

    def _export(self, region: Box) -> Box | None:
        """Resample a region of the network grid to the scan."""
        box, margin = margin_on_scan(self._window.margin, self._grid, region)
        if box.is_empty:
            return None
        mask, found = self._found.copy(), margin > 0  # a tie is background
        differs = bounding_box(mask[box.slices] != found)
        mask[box.slices] = found
        mask.flags.writeable = False
        self._found = mask
        self._margin[box.relative_to(self._box).slices] = margin
        return differs.shifted(box.start_zyx) if differs is not None else None

    def _apply_rules(self, pet: Array, clicks: Sequence[TumorClick], notes: list[str]) -> Box | None:
        """Make the mask from the network's; adds to the notes, and returns the box of what changed."""
        placed, _ = place_clicks(clicks, self._geometry)
        mask, said = apply_rules(self._found, pet, self._geometry, placed, self._rules)
        notes += said
        changed = bounding_box(mask != self.mask)
        mask.flags.writeable = False
        self.mask = mask
        return changed

    def result(self) -> TumorSegmentation:
        """A copy of the present result, as `segment_pet_ct` returns it."""
        return TumorSegmentation(self.mask, self._box, self._margin.copy(), self.clicks, self.warnings)
