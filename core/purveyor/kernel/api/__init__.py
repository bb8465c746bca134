"""The HTTP API: server, authentication, problems, streaming."""
