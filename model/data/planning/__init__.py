"""nnU-Net's planning: fingerprint, planner and the files of a plan."""
