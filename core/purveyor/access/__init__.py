"""Who comes in: users, their tokens and sessions, and accounts of an OpenID Connect provider."""
