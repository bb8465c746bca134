"""Continuous archiving, and recovery to a point in time."""
