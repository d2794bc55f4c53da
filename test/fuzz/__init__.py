"""Damaged and altered inputs of every kind: refused in one sentence, or read as another reader reads them."""
