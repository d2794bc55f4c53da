"""Data sets as they come -> prepared data that training reads."""
