"""PET/CT data sets for training: studies as they come → prepared studies, plan, folds."""
