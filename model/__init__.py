"""Promptable longitudinal lesion segmentation in whole-body CT.

Importing this package imports neither torch nor SimpleITK.
"""

__version__ = "0.1.0"
