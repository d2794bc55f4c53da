"""New lesions with a style: place, shape, rim and core."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from model.case.geometry import Array, Geometry
from model.synthesis.canvas import Canvas
from model.synthesis.draw_types import NewDraw, NewStyleDraw
from model.synthesis.host_tissue import HostTissue, TissueKind, find_host_tissue
from model.synthesis.lesion_shapes import draw_shape
from model.synthesis.random_draws import draw_followup
from model.synthesis.scan_lesions import ScanLesions
from model.synthesis.settings import NewStyleSettings
from model.synthesis.styled_lesions import insert_styled_lesion

from ...helpers.synthesis_phantom import STILL, events

GRID = Geometry((48, 48, 40), (1.0, 1.0, 1.5), (0.0, 0.0, 0.0))
PLAIN = NewStyleDraw(None, False, 4.0, 0.0, 0, 0.0, 0.0, 0.0, 0.0, 10.0, 60.0, 0.0)
DRAW = NewDraw(5, None, (False,) * 3, (5.0, 5.0, 5.0), 40.0, 0.0, 3, 4, PLAIN)
HU = {
    TissueKind.LUNG: -850,
    TissueKind.FAT: -100,
    TissueKind.SOFT: 50,
    TissueKind.ORGAN: 60,
    TissueKind.BONE: 400,
}
MIDDLE = HostTissue(np.array([[29.0, 24.0, 24.0]]), {})


def _flat(hu: int) -> Canvas:
    return Canvas(np.full(GRID.shape_zyx, hu, np.int16), np.zeros(GRID.shape_zyx, np.uint16), GRID)


def _inserted(canvas: Canvas, style: NewStyleDraw, host: HostTissue = MIDDLE) -> Array:
    found = insert_styled_lesion(canvas, host, replace(DRAW, style=style), style)
    where = canvas.labels == DRAW.lesion_id
    assert found.voxels == where.sum() and (found.centre_zyx is not None) == bool(found.voxels)
    return np.asarray(where)


@pytest.mark.parametrize(
    ("kind", "expected"), list(zip(TissueKind, (0, 40, 90, 100, 60), strict=True)), ids=str
)
def test_a_lesion_has_its_density_in_each_tissue(kind: TissueKind, expected: int) -> None:
    canvas = _flat(HU[kind])
    host = HostTissue(np.empty((0, 3)), {kind: MIDDLE.positions_mm})
    where = _inserted(canvas, replace(PLAIN, tissue=kind.value), host)
    assert where.sum() * 1.5 == pytest.approx(4 / 3 * np.pi * 5**3, rel=0.1)
    inner = ndimage.binary_erosion(where, iterations=2)
    assert inner.sum() > 50 and np.median(canvas.ct[inner]) == pytest.approx(expected, abs=3)


def test_a_rim_and_a_core_differ_from_the_lesion() -> None:
    canvas = _flat(50)
    style = replace(PLAIN, rim_mm=1.5, rim_hu=50.0, core_share=0.4, core_hu=5.0)
    where = _inserted(canvas, style)
    centre = np.argwhere(where).mean(axis=0)
    offsets = (np.indices(GRID.shape_zyx) - centre.reshape(3, 1, 1, 1)) * np.reshape(
        GRID.spacing_zyx, (3, 1, 1, 1)
    )
    distance = np.linalg.norm(offsets, axis=0)
    core, shell = canvas.ct[distance < 1.2], canvas.ct[(distance > 3.6) & (distance < 4.4)]
    assert abs(core.mean() - 5) < 12 and shell.mean() > 110
    assert np.array_equal(canvas.ct[distance > 10], np.full((distance > 10).sum(), 50))


def test_rough_and_spiculated_lesions_are_less_round() -> None:
    plain = draw_shape((6.0,) * 3, PLAIN, 1, GRID)
    assert plain.inside.sum() * 1.5 == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.02)
    for style in (replace(PLAIN, roughness=0.25), replace(PLAIN, spicules=10, spicule_length=0.8)):
        shape = draw_shape((6.0,) * 3, style, 1, GRID)
        middle = np.reshape((np.asarray(shape.inside.shape) - 1) / 2, (3, 1, 1, 1))
        offsets = (np.indices(shape.inside.shape) - middle) * np.reshape(GRID.spacing_zyx, (3, 1, 1, 1))
        farthest = np.linalg.norm(offsets, axis=0)[shape.inside > 0.2].max()
        assert farthest > 7.5
        assert not any(side.any() for side in (shape.inside[0], shape.inside[:, 0], shape.inside[..., -1]))


def test_a_small_lesion_has_at_least_one_voxel() -> None:
    assert draw_shape((0.3,) * 3, PLAIN, 1, GRID).mask.sum() >= 1


def test_only_close_lesions_lie_beside_a_border() -> None:
    def beside() -> Canvas:
        canvas = _flat(50)
        canvas.ct[:, :, 31:] = -100  # fat 7 mm beside the centre
        return canvas

    assert not _inserted(beside(), replace(PLAIN, clearance_mm=12.0)).any()
    assert _inserted(beside(), replace(PLAIN, is_close=True, clearance_mm=1.0)).any()
    crowded = beside()
    crowded.labels[20, 24, 24] = 1
    assert not _inserted(crowded, replace(PLAIN, is_close=True, clearance_mm=1.0)).any()


def test_kinds_of_tissue_are_found() -> None:
    ct = np.full((40, 60, 60), -1000, np.int16)
    ct[:, 4:56, 4:56] = 50
    ct[:, 4:56, 44:56] = -100
    ct[8:32, 44:56, 8:40] = 500
    found = find_host_tissue(ct, (4.0, 4.0, 4.0), GRID.axial_map()).by_kind
    assert {TissueKind.FAT, TissueKind.SOFT, TissueKind.ORGAN, TissueKind.BONE} == found.keys()
    for kind, positions in found.items():
        hu = ct[tuple(np.rint(positions / 4.0).astype(int).T)]
        assert set(np.unique(hu)) == {{"fat": -100, "bone": 500}.get(kind.value, 50)}


def test_styles_are_drawn_as_often_as_they_are_set() -> None:
    settings = replace(
        events(STILL, new_mean=50, new_max=200), new=NewStyleSettings(p_by_tissue=0.5, p_rim=0.3, p_core=1.0)
    )
    styles = [new.style for new in draw_followup(ScanLesions((), ()), settings, 0, "scan", 1).new]
    assert None not in styles
    assert np.mean([s.rim_mm > 0 for s in styles if s]) == pytest.approx(0.3, abs=0.15)
    assert {s.tissue for s in styles if s} == {None, *(kind.value for kind in TissueKind)}
    assert all(s.core_share > 0 and s.roughness == 0 for s in styles if s)
    plain = draw_followup(ScanLesions((), ()), replace(settings, new=NewStyleSettings()), 0, "scan", 1).new
    drawn = draw_followup(ScanLesions((), ()), settings, 0, "scan", 1).new
    assert plain == tuple(replace(new, style=None) for new in drawn)
