"""The verbs: one module each, named for what it does."""

from collections.abc import Callable, Mapping

from purveyor.house import House
from purveyor.operations import Verb
from purveyor.provision import Provisioner
from purveyor.verbs.adopt import Import
from purveyor.verbs.archive import Archive, EndArchive
from purveyor.verbs.backup import Backup, DeleteBackup, VerifyBackup
from purveyor.verbs.bind import Bind
from purveyor.verbs.create import Create
from purveyor.verbs.delete import Delete
from purveyor.verbs.deploy import Deploy
from purveyor.verbs.end_access import EndAccess
from purveyor.verbs.environments import DeleteEnvironment
from purveyor.verbs.kept import AttachVolume, CloneVolume, UndoUpgrade
from purveyor.verbs.lifecycle import Repair, Restart, Start, Stop
from purveyor.verbs.link import Link, Unlink
from purveyor.verbs.projects import CreateProject, DeleteProject
from purveyor.verbs.purge import Purge
from purveyor.verbs.repair_app import RepairApp
from purveyor.verbs.restore import Clone, Restore
from purveyor.verbs.rotate import Rotate
from purveyor.verbs.rotate_administrator import RotateAdministrator
from purveyor.verbs.undelete import Undelete
from purveyor.verbs.update import Update
from purveyor.verbs.upgrade import Upgrade

VERBS: tuple[Callable[[House, Provisioner], Verb], ...] = (
    Archive,
    AttachVolume,
    Backup,
    Bind,
    Clone,
    CloneVolume,
    Create,
    CreateProject,
    Delete,
    DeleteBackup,
    DeleteEnvironment,
    DeleteProject,
    Deploy,
    EndAccess,
    EndArchive,
    Import,
    Link,
    Purge,
    Repair,
    RepairApp,
    Restart,
    Restore,
    Rotate,
    RotateAdministrator,
    Start,
    Stop,
    Undelete,
    UndoUpgrade,
    Unlink,
    Update,
    Upgrade,
    VerifyBackup,
)


def build(house: House, provisioner: Provisioner) -> Mapping[str, Verb]:
    """Every verb by its name."""
    made = [kind(house, provisioner) for kind in VERBS]
    return {verb.name: verb for verb in made}
