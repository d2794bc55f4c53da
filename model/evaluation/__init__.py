"""Evaluation of predicted lesions: records of lesions and tables derived from them; needs no torch."""
