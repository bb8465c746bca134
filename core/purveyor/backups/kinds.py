"""The kinds of backups, by the names that are stored."""

BASE = "base"  # the kind of backup that changes can be added to
