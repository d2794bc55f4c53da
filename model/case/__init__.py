"""What a case is, and how it comes in and goes out. Knows nothing of torch."""
