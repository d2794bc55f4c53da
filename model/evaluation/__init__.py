"""How good predicted lesions are: records of lesions, and tables that derive from them. Needs no torch."""
