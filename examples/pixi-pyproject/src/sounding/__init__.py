"""Depths."""

FATHOM = 1.8288
