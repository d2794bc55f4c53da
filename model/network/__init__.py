"""The numbers of the model, in the order in which data meets them."""
