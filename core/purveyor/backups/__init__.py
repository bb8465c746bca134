"""Backups: made, verified, restored, stored, scheduled."""
