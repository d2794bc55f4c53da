"""All kinds of input, by name."""

from __future__ import annotations

from functools import cache

from .image_files import IMAGES
from .judge import Kind, Seed
from .lesion_files import BOXES, CLICKS, COHORTS, LESION_MAPS, SERIES, SOCKETS
from .model_files import CHECKPOINTS, DATA_SETS, PLANS
from .prompt_files import DOSES, TRACKING_FILES, TUMOR_CLICKS
from .transform_files import TRANSFORMS

KINDS = {
    kind.name: kind
    for kind in (
        *(IMAGES, CLICKS, BOXES, SOCKETS, PLANS, DATA_SETS, CHECKPOINTS),
        *(SERIES, COHORTS, LESION_MAPS, TRANSFORMS),
        *(TRACKING_FILES, TUMOR_CLICKS, DOSES),
    )
}


@cache
def seeds_of(kind: Kind) -> tuple[Seed, ...]:
    """The valid inputs of a kind, made once."""
    return kind.seeds()
