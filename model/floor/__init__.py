"""The floor of an evaluation: lesions drawn without a network, which a network has to be better than."""
