"""Users: people with a name, whose tokens act in it."""
