"""Training: raw images and labelmaps -> weights."""
