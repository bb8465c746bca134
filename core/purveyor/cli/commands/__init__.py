"""The commands, in modules that are loaded when they are called."""
