"""Phantoms, files of cases and stand-ins that several test modules share."""
