"""All 48 ways in which a file can store the axes of an axial array."""

from __future__ import annotations

from itertools import permutations, product

from model.case.geometry import AxisMap

ORDERS = list(permutations(range(3), 3))
FLIPS = list(product((False, True), (False, True), (False, True)))
ORIENTATIONS = [AxisMap(order, flips) for order in ORDERS for flips in FLIPS]
