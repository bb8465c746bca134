"""Deploying, as people come to it."""

from purveyor.exposed import Exposed
from purveyor.projects.exposed import PROJECT

ROUTES = "purveyor.deployments.routes"

DEPLOY = Exposed(
    "deploy",
    f"POST {PROJECT}/deployments",
    "deploy",
    "projects",
    body="purveyor.deployments.operations.deploy:DeployRequest",
    prepare=f"{ROUTES}:by_whom",
    guard="purveyor.projects.routes:own_project",
    status=201,
    answers=f"{ROUTES}:deployment_made",
)
