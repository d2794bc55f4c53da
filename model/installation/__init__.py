"""Whether this machine can run the networks: software, processor, memory, GPU, folders, weights."""
