"""Plugins: loading, guards, deadlines."""
