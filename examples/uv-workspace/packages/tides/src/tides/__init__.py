"""The height of the sea."""

import math


def height(hours: float, mean: float = 2.0, range_: float = 1.5) -> float:
    """Give the height in metres, hours after high water."""
    return mean + range_ / 2 * math.cos(2 * math.pi * hours / 12.42)
