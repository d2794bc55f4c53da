"""The network and the preparation of its input: plan, weights, resampling, patches and prompt channels."""
