"""The installation's own state, sealed at every place of its backups, and the way back from
there."""
