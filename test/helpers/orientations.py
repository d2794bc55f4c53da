"""All 48 ways in which a file can store the axes of an axial array."""

from __future__ import annotations

from itertools import permutations, product

from model.case.geometry import AxisMap

ORIENTATIONS = [
    AxisMap(order, flips) for order in permutations(range(3)) for flips in product((False, True), repeat=3)
]
