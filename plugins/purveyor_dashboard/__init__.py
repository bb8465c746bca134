"""The dashboard: everything that the API does, for people. It is a client of the API and knows
nothing else.

Server-rendered; htmx (vendored) asks for parts anew when something happens. It reads without
JavaScript.
"""

from collections.abc import Sequence
from typing import Any

from purveyor_hooks import Application, bases


class Dashboard(bases.Everyones):
    """Serves the pages."""

    def http_routes(self, app: Application) -> Sequence[Any]:
        from purveyor_dashboard.routes import routers

        return routers(app)


plugin = Dashboard()
