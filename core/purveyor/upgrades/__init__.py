"""Upgrades of services to another image, and their undoing."""
