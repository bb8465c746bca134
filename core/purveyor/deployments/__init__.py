"""Deployments: an environment's app, run with its variables."""
