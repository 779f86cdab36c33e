"""Helpers for the exercises."""

import humanize


def words(n: int) -> str:
    """Write a large number the way a newspaper does."""
    return humanize.intword(n)
