"""Services: created, started, watched, imported, deleted."""
