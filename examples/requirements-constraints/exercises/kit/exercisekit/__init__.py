"""Shared by the exercises."""

level = 3
