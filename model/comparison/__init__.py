"""The comparison in the form of [Kirchhoff2025]'s Table 1: rows, their runs within a budget, and the table."""
