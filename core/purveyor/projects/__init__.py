"""Projects, their environments, their links to services and what these inject."""
