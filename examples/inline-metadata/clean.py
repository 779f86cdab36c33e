# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "humanize==4.12.3",
#     "six",
# ]
# ///
"""Cleans the measurements: uv run clean.py."""

import humanize

if __name__ == "__main__":
    print(humanize.intcomma(12345))
