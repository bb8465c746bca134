"""Clients of the HTTP API: purveyor.toml and Compose's provider."""
