"""The kernel: events, operations, plugins, Docker, database, API and command line. It knows no
service, project or backup."""
