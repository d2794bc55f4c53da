"""The command `train table`: train and compare the variants of [Kirchhoff2025]'s Table 1 within a budget."""
