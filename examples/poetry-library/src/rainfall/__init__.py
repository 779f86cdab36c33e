"""Rain, in numbers."""

import humanize


def total(millimetres: list[float]) -> str:
    """Add up what fell."""
    return humanize.metric(sum(millimetres) / 1000, "m")
