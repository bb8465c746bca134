"""The command line: a client of the API, whether a daemon runs or not."""
