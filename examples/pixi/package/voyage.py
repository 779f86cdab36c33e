"""Days at sea."""


def days(miles, knots):
    """How long a voyage takes."""
    return miles / knots / 24
