"""Registration of scans, and propagation of lesions from one scan to another. Uses no network."""
