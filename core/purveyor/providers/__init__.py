"""Service types: which plugin provides each, what is looked at when it is loaded, how its hooks are
called."""
