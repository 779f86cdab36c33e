"""Speeds at sea."""

import humanize


def kilometres_per_hour(knots: float) -> float:
    """One knot is one nautical mile (1852 m) an hour."""
    return knots * 1.852


def spoken(knots: float) -> str:
    """The speed as a sentence."""
    return f"{humanize.intcomma(round(kilometres_per_hour(knots)))} km/h"
