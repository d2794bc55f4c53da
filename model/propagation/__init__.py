"""Where a lesion of one scan lies in another one. Knows no network."""
