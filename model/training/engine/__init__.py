"""Training of one network: samples, augmentation, loss, loop, checkpoints."""
