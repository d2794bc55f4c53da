"""nnU-Net's planning for prepared data: fingerprint, plan, and its files."""
