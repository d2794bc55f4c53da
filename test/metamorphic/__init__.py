"""Changes of a whole case that must not change its result."""
