"""What the notebooks share."""

from tides import height

__all__ = ["height"]
