"""Points and boxes derived from lesion masks. Independent of any network."""
