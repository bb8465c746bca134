"""The audit log: who did or saw what, when and from where. Entries are added and never changed."""
