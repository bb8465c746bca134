"""Backups at rest: how their bytes are packed, where they are kept, and the manifest that says what they are."""
