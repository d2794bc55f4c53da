"""Interactive PET/CT: CT, PET and clicks → one mask of all tumour."""
