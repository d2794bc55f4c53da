"""Following lesions over time points: whatever calls a segmenter again and again."""
