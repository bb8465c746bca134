"""The verbs: one module each, named for what it does."""

from collections.abc import Callable, Mapping

from purveyor.house import House
from purveyor.operations import Verb
from purveyor.provision import Provisioner
from purveyor.verbs.bind import Bind
from purveyor.verbs.create import Create
from purveyor.verbs.delete import Delete
from purveyor.verbs.deploy import Deploy
from purveyor.verbs.environments import DeleteEnvironment
from purveyor.verbs.lifecycle import Repair, Restart, Start, Stop
from purveyor.verbs.link import Link, Unlink
from purveyor.verbs.projects import CreateProject, DeleteProject
from purveyor.verbs.update import Update

VERBS: tuple[Callable[[House, Provisioner], Verb], ...] = (
    Bind,
    Create,
    CreateProject,
    Delete,
    DeleteEnvironment,
    DeleteProject,
    Deploy,
    Link,
    Repair,
    Restart,
    Start,
    Stop,
    Unlink,
    Update,
)


def build(house: House, provisioner: Provisioner) -> Mapping[str, Verb]:
    """Every verb by its name."""
    made = [kind(house, provisioner) for kind in VERBS]
    return {verb.name: verb for verb in made}
