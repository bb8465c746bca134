"""Purveyor: managed services for your own Docker host."""

__version__ = "0.2.0"
