"""Orbits."""


def period(au: float) -> float:
    """Give the years of an orbit (Kepler's third law)."""
    return au**1.5
