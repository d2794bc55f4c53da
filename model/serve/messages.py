"""Messages between client and server as JSON: requests, and the state of a session."""

from __future__ import annotations

import base64
import zlib
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..case.geometry import Box, Vector, flip_order
from ..case.lesion_json import Triple
from ..case.suv_checks import InjectedDose
from ..interactive.session import Session
from .session_table import RefusedRequestError

_LONGEST_SCRIBBLE = 500


class _Request(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class ImagesRequest(_Request):
    """Request to segment the uploaded images; ``activity`` converts a PET in Bq/ml to SUV."""

    activity: Annotated[list[float], Field(min_length=4, max_length=4)] | None = None

    @property
    def dose(self) -> InjectedDose | None:
        return None if self.activity is None else InjectedDose(*self.activity)


class PointsRequest(_Request):
    """A click, or the points of a scribble, (x, y, z): voxel indices of the CT's file, or LPS mm."""

    kind: Literal["tumor", "background"]
    points: Annotated[list[Triple], Field(min_length=1, max_length=_LONGEST_SCRIBBLE)]
    units: Literal["voxel", "world"] = "voxel"

    def points_zyx(self, session: Session) -> list[Vector]:
        """Convert the points to voxel indices of a session's CT.

        Args:
            session: with images.

        Returns:
            Triples (z, y, x), in voxels.
        """
        if self.units == "world":
            return [session.voxel_of(point) for point in self.points]
        return [flip_order(point) for point in self.points]


Parsed = TypeVar("Parsed", bound=_Request)


def parsed_request(kind: type[Parsed], body: bytes) -> Parsed:
    """Parse the JSON body of a request.

    Raises:
        RefusedRequestError: the body is no JSON, or not valid for ``kind``.
    """
    try:
        return kind.model_validate_json(body or b"{}")
    except ValidationError as error:
        fault: Any = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise RefusedRequestError(400, f"{where or 'the request'}: {fault['msg']}") from error


def session_state(session: Session, changed: Box | None) -> dict[str, Any]:
    """The state of a session for its client.

    Args:
        session: with images.
        changed: box (z, y, x) of the CT's grid whose voxels are sent; None sends none.

    Returns:
        Triples in the order (x, y, z); ``changed.voxels`` are bytes 0 and 1, x fastest, compressed by zlib,
        in base64.
    """
    predicted, tiles = session.predicted_tiles
    return {
        "size": flip_order(session.mask.shape),
        "spacing_mm": flip_order(session.spacing_zyx),
        "volume_ml": session.volume_ml,
        "steps": session.steps,
        "clicks": click_list(session),
        "warnings": session.warnings,
        "tiles": {"predicted": predicted, "all": tiles},
        "changed": None if changed is None else _voxels(session, changed),
    }


def click_list(session: Session) -> list[dict[str, Any]]:
    """The clicks of a session as entries of a click file, points (x, y, z) on the CT's file."""
    return [{"name": str(click.kind), "point": list(flip_order(click.point_zyx))} for click in session.clicks]


def _voxels(session: Session, box: Box) -> dict[str, Any]:
    values = np.ascontiguousarray(session.mask[box.slices], np.uint8)
    return {
        "start": flip_order(box.start_zyx),
        "size": flip_order(box.shape_zyx),
        "voxels": base64.b64encode(zlib.compress(values.tobytes(), 1)).decode(),
    }
