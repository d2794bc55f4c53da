"""The sample case: a real CT with its real nodule, and a follow-up made from it (see README.md here)."""
