"""A case from its files to its labelmaps: locate, predict, merge."""
