"""Points and boxes out of lesion masks. Knows no network."""
