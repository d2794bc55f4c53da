"""The comparison in the form of paper 000's Table 1: rows, their runs within a budget, and the table."""
