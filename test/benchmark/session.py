"""Tiles and time of one more click in a session for PET/CT, paired against a run from the start.

    python -m test.benchmark.session [--grid 404,344,344] [--patch 192] [--places 2000] [--clicks 12]
        [--weights test/golden/petct/model] [--folds 1] [--assert-share 0.2] [--assert-ratio 0.3]

Tiles are counted, not computed, so that the grid may be of real size. Times are those of a grid with as many
tiles of the small networks' own patch. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from model.case.geometry import Box, Geometry, Index
from model.inference.options import ModelOptions
from model.interactive.load_pet_ct import load_pet_ct_model
from model.interactive.segment_pet_ct import segment_pet_ct
from model.interactive.session import Session
from model.interactive.window_predictor import marks_in_tile
from model.network.tiles import window_tiles

from .machine import describe_machine

CHECKOUT = Path(__file__).resolve().parents[2]


def tile_shares(grid: Index, patch: Index, places: int, seed: int = 0) -> np.ndarray:
    """Share of the tiles that one click concerns, at random places of a grid.

    Args:
        grid: shape in voxels.
        patch: shape of a tile.
        places: how many.
        seed: of the places.

    Returns:
        Shares from 0 to 1, [places].
    """
    tiles = window_tiles(Box.of_shape(grid), grid, patch)
    voxels = np.random.default_rng(seed).integers(0, grid, (places, 3)).tolist()
    return np.array(
        [sum(bool(marks_in_tile([(z, y, x)], tile)) for tile in tiles) / len(tiles) for z, y, x in voxels]
    )


def similar_grid(grid: Index, patch: Index, small: Index) -> Index:
    """The grid that relates to a smaller patch as another one does to a larger patch."""
    z, y, x = (round(n / p * s) for n, p, s in zip(grid, patch, small, strict=True))
    return (z, y, x)


def measure(weights: Path, folds: int, grid: Index, patch: Index, clicks: int) -> dict[str, object]:
    """Time clicks at random places, each against a run from the start with the same clicks."""
    model = load_pet_ct_model(weights, ModelOptions(device="cpu"), range(folds))
    network = model.plan.network
    shape = similar_grid(grid, patch, network.patch_size_zyx)
    rng = np.random.default_rng(1)
    ct = rng.integers(-900, 900, shape).astype(np.int16)
    pet = rng.uniform(0.5, 20, shape).astype(np.float32)
    spacing = network.spacing_zyx
    geometry = Geometry(shape[::-1], spacing[::-1], (0.0, 0.0, 0.0))
    session = Session(model).set_images(ct, pet, spacing_zyx=spacing)
    seconds: dict[str, list[float]] = {"click": [], "run": []}
    tiles, differing = [], 0
    for number in range(clicks):
        begin = time.perf_counter()
        session.add_click(rng.integers(0, shape).tolist(), ("tumor", "background")[number % 2])
        seconds["click"].append(time.perf_counter() - begin)
        begin = time.perf_counter()
        whole = segment_pet_ct(model, ct, pet, geometry, session.clicks)
        seconds["run"].append(time.perf_counter() - begin)
        tiles.append(session.predicted_tiles[0])
        differing += int(np.count_nonzero(session.mask != whole.mask))
    ratios = [click / run for click, run in zip(seconds["click"], seconds["run"], strict=True)]
    return {
        "grid": shape,
        "patch": network.patch_size_zyx,
        "tiles": session.predicted_tiles[1],
        "folds": len(model.ensemble.folds),
        "predicted_tiles": tiles,
        "mean_seconds": {name: round(statistics.mean(values), 3) for name, values in seconds.items()},
        "ratios": [round(ratio, 3) for ratio in ratios],
        "mean_ratio": round(statistics.mean(ratios), 3),
        "differing_voxels": differing,
    }


def _triple(text: str) -> Index:
    numbers = [int(part) for part in text.split(",")]
    z, y, x = numbers * 3 if len(numbers) == 1 else numbers
    return (z, y, x)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--grid", type=_triple, default=(404, 344, 344), help="network grid z,y,x")
    parser.add_argument("--patch", type=_triple, default=(192, 192, 192), help="patch z,y,x, or one number")
    parser.add_argument("--places", type=int, default=2000, help="random places for the count of tiles")
    parser.add_argument("--clicks", type=int, default=12, help="clicks to time; 0 only counts tiles")
    parser.add_argument("--weights", type=Path, default=CHECKOUT / "test" / "golden" / "petct" / "model")
    parser.add_argument("--folds", type=int, default=1, help="folds of the model that are timed")
    parser.add_argument("--assert-share", type=float, help="fail if the mean share of the tiles is larger")
    parser.add_argument("--assert-ratio", type=float, help="fail if the mean share of the time is larger")
    arguments = parser.parse_args()
    shares = tile_shares(arguments.grid, arguments.patch, arguments.places)
    counted = {"grid": arguments.grid, "patch": arguments.patch, "places": arguments.places}
    counted |= {"mean_share": round(float(shares.mean()), 4), "largest_share": round(float(shares.max()), 4)}
    timed = None
    if arguments.clicks:
        timed = measure(arguments.weights, arguments.folds, arguments.grid, arguments.patch, arguments.clicks)
    print(json.dumps({"count": counted, "time": timed, "machine": describe_machine()}, indent=1))
    too_many = arguments.assert_share is not None and shares.mean() > arguments.assert_share
    if timed is None:
        return int(too_many)
    too_slow = arguments.assert_ratio is not None and timed["mean_ratio"] > arguments.assert_ratio
    return int(too_many or too_slow or timed["differing_voxels"] != 0)


if __name__ == "__main__":
    sys.exit(main())
