"""A comparison like [Kirchhoff2025]'s Table 1: rows, their runs within a budget, and the table."""
