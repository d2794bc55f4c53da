"""Training of the interactive network for PET/CT: its samples, clicks and heads for organs."""
