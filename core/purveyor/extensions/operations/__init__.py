"""The operations that plugins bring."""
