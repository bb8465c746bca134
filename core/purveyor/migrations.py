"""The tables, as a row of migrations that each database walks once."""

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

migrations = Migrations("purveyor")


FIRST = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE volumes (
    id TEXT PRIMARY KEY,            -- also the name of its folder
    name TEXT NOT NULL UNIQUE,      -- of the Docker volume
    path TEXT NOT NULL,             -- the folder on the host that holds the data
    service_type TEXT NOT NULL,
    major TEXT NOT NULL DEFAULT '',
    identity TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL CHECK (state IN ('new', 'used', 'kept', 'purged')),
    origin TEXT NOT NULL,           -- name of the service it was made for
    created_at TEXT NOT NULL,
    kept_at TEXT
) STRICT;

CREATE TABLE services (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    slug TEXT NOT NULL,
    service_type TEXT NOT NULL,
    parameters TEXT NOT NULL,       -- sealed
    secrets TEXT NOT NULL,          -- sealed
    given TEXT NOT NULL,            -- names of the parameters that the owner chose
    image TEXT NOT NULL,
    image_id TEXT NOT NULL DEFAULT '',
    image_environment TEXT NOT NULL DEFAULT '{}',
    volume_id TEXT REFERENCES volumes (id),
    container_name TEXT NOT NULL,
    desired TEXT NOT NULL CHECK (desired IN ('running', 'stopped')),
    state TEXT NOT NULL CHECK (state IN ('creating', 'active', 'deleting', 'deleted')),
    refusal TEXT NOT NULL DEFAULT '',
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX services_slug ON services (slug) WHERE state != 'deleted';

CREATE TABLE projects (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT;

CREATE TABLE environments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    slug TEXT NOT NULL,
    created_at TEXT NOT NULL,
    UNIQUE (project_id, slug)
) STRICT;

CREATE TABLE links (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    service_id INTEGER NOT NULL REFERENCES services (id),
    project_id INTEGER NOT NULL REFERENCES projects (id),
    service_type TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('linking', 'linked', 'unlinking')),
    created_at TEXT NOT NULL,
    UNIQUE (project_id, service_type)
) STRICT;

-- A binding outlives its link, its environment and its project: it says whose data a resource holds.
CREATE TABLE bindings (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    service_id INTEGER NOT NULL REFERENCES services (id),
    project_id INTEGER REFERENCES projects (id) ON DELETE SET NULL,
    environment_id INTEGER REFERENCES environments (id) ON DELETE SET NULL,
    project TEXT NOT NULL,
    environment TEXT NOT NULL,
    resource TEXT NOT NULL,
    account TEXT NOT NULL,
    password TEXT NOT NULL,         -- sealed
    slot INTEGER,
    state TEXT NOT NULL CHECK (state IN ('intended', 'bound', 'unbound')),
    created_at TEXT NOT NULL,
    UNIQUE (service_id, resource),
    UNIQUE (service_id, slot),
    UNIQUE (service_id, environment_id)
) STRICT;

CREATE TABLE deployments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    environment_id INTEGER NOT NULL REFERENCES environments (id) ON DELETE CASCADE,
    app TEXT,
    state TEXT NOT NULL CHECK (state IN ('deploying', 'active', 'retired', 'failed')),
    container TEXT NOT NULL DEFAULT '',
    url TEXT NOT NULL DEFAULT '',
    error TEXT NOT NULL DEFAULT '',
    created_at TEXT NOT NULL,
    ended_at TEXT
) STRICT;

-- Every host port that is promised to somebody.
CREATE TABLE ports (
    port INTEGER PRIMARY KEY,
    service_id INTEGER REFERENCES services (id) ON DELETE CASCADE,
    deployment_id INTEGER REFERENCES deployments (id) ON DELETE CASCADE,
    parameter TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE TABLE operations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    verb TEXT NOT NULL,
    service_id INTEGER,
    project_id INTEGER,
    actor TEXT NOT NULL DEFAULT '',
    arguments TEXT NOT NULL,
    private TEXT,                   -- sealed: what it needs and nobody may read
    state TEXT NOT NULL CHECK (state IN ('running', 'undoing', 'succeeded', 'failed')),
    error TEXT,
    created_at TEXT NOT NULL,
    ended_at TEXT
) STRICT;
CREATE INDEX operations_unfinished ON operations (id) WHERE state IN ('running', 'undoing');

CREATE TABLE steps (
    operation_id INTEGER NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('started', 'done', 'failed', 'undone')),
    started_at TEXT NOT NULL,
    ended_at TEXT,
    PRIMARY KEY (operation_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    type TEXT NOT NULL,
    at TEXT NOT NULL,
    operation INTEGER,
    service INTEGER,
    project INTEGER,
    data TEXT NOT NULL
) STRICT;

CREATE TABLE tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    scope TEXT NOT NULL CHECK (scope IN ('admin', 'read', 'project')),
    project_id INTEGER REFERENCES projects (id) ON DELETE CASCADE,
    created_at TEXT NOT NULL,
    expires_at TEXT,
    revoked_at TEXT,
    last_used_at TEXT
) STRICT;
"""


# A token of one environment is injected at deploys, so its text is kept, sealed.
ENVIRONMENT_TOKENS = """
ALTER TABLE tokens ADD COLUMN environment_id INTEGER REFERENCES environments (id) ON DELETE CASCADE;
ALTER TABLE tokens ADD COLUMN sealed TEXT;
"""

# A scratch service is one that an operation makes beside another: to prove a backup, to carry data
# over.
BACKUPS = """
ALTER TABLE services ADD COLUMN purpose TEXT NOT NULL DEFAULT '';
ALTER TABLE bindings ADD COLUMN origin INTEGER NOT NULL DEFAULT 0;
ALTER TABLE volumes ADD COLUMN kept_until TEXT;
ALTER TABLE volumes ADD COLUMN facts TEXT;

CREATE TABLE s3_sources (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    bucket_name TEXT NOT NULL,
    bucket_path TEXT NOT NULL,
    access_key_id TEXT NOT NULL,
    secret_key TEXT NOT NULL,       -- sealed
    region TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    force_path_style INTEGER NOT NULL,
    created_at TEXT NOT NULL
) STRICT;

CREATE TABLE schedules (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    backup_type TEXT NOT NULL,
    retention_period INTEGER NOT NULL,
    retention_count INTEGER NOT NULL,
    schedule_expression TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    description TEXT NOT NULL,
    tags TEXT NOT NULL,
    s3_source_id INTEGER REFERENCES s3_sources (id),
    service_ids TEXT NOT NULL,
    verify INTEGER NOT NULL,
    next_run TEXT,
    last_run TEXT,
    created_at TEXT NOT NULL
) STRICT;

-- A backup outlives its service.
CREATE TABLE backups (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    backup_id TEXT NOT NULL UNIQUE,
    service_id INTEGER,
    service_name TEXT NOT NULL,
    service_type TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'ok', 'suspect', 'failed')),
    backup_type TEXT NOT NULL,
    s3_source_id INTEGER REFERENCES s3_sources (id),
    schedule_id INTEGER REFERENCES schedules (id) ON DELETE SET NULL,
    folder TEXT NOT NULL,
    location TEXT NOT NULL,
    size_bytes INTEGER NOT NULL DEFAULT 0,
    plain_bytes INTEGER NOT NULL DEFAULT 0,
    checksum TEXT NOT NULL DEFAULT '',
    encryption TEXT NOT NULL DEFAULT '',
    error_message TEXT NOT NULL DEFAULT '',
    metadata TEXT NOT NULL DEFAULT '{}',
    proven_at TEXT,
    proven_seconds REAL,
    started_at TEXT NOT NULL,
    completed_at TEXT,
    expires_at TEXT
) STRICT;
"""

# JSON: what is known of a container that somebody else made.
IMPORTED = """
ALTER TABLE services ADD COLUMN imported TEXT;
"""

# Services whose every change is written down. `folder` is where the changes are kept at its place.
ARCHIVES = """
CREATE TABLE archives (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    service_id INTEGER NOT NULL UNIQUE REFERENCES services (id),
    s3_source_id INTEGER REFERENCES s3_sources (id),
    encryption TEXT NOT NULL,
    keep_days INTEGER NOT NULL,
    volume_id TEXT,
    folder TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('starting', 'following', 'waiting', 'broken')),
    reason TEXT NOT NULL DEFAULT '',
    until TEXT,
    queue_bytes INTEGER NOT NULL DEFAULT 0,
    base_at TEXT,
    created_at TEXT NOT NULL
) STRICT;
"""

# What was seen of services, for charts. No reference: a look may be written after its service's
# end.
LOOKS = """
CREATE TABLE looks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    service_id INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('health', 'usage')),
    seen TEXT NOT NULL
) STRICT;
CREATE INDEX looks_service ON looks (service_id, kind, id);
"""

# JSON: the names of an operation's steps, decided with its intent. NULL for those that an older
# version began.
STEP_NAMES = "ALTER TABLE operations ADD COLUMN step_names TEXT"
# JSON: the locks that an operation holds until it has ended. NULL for those that an older version
# began.
OPERATION_LOCKS = """
ALTER TABLE operations ADD COLUMN locks TEXT;
"""

# JSON: what an operation that moved data found, see `Outcome`.
OPERATION_OUTCOME = """
ALTER TABLE operations ADD COLUMN outcome TEXT
"""

# sealed JSON: what opens the data of a volume that is kept, see `services.keep_volume`
VOLUME_CREDENTIALS = """
ALTER TABLE volumes ADD COLUMN credentials TEXT
"""

# `jitter` is in seconds; `last_result` is JSON, see `LastResult`.
SCHEDULE_ZONES = """
ALTER TABLE schedules ADD COLUMN timezone TEXT NOT NULL DEFAULT 'UTC';
ALTER TABLE schedules ADD COLUMN jitter INTEGER NOT NULL DEFAULT 0;
ALTER TABLE schedules ADD COLUMN last_result TEXT
"""

# Every list, and whatever is asked about one service, project, operation or backup, is led there by
# one of these.
INDEXES = """
CREATE INDEX services_name ON services (name) WHERE state != 'deleted';
CREATE INDEX services_type ON services (service_type) WHERE state != 'deleted' AND purpose = '';
CREATE INDEX services_by_name ON services (lower(name), id) WHERE state != 'deleted' AND purpose = '';
CREATE INDEX services_by_type ON services (service_type, lower(name), id) WHERE state != 'deleted' AND purpose = '';
CREATE INDEX services_volume ON services (volume_id);
CREATE INDEX volumes_state ON volumes (state, kept_at);
CREATE INDEX links_service ON links (service_id);
CREATE INDEX bindings_project ON bindings (project_id);
CREATE INDEX bindings_environment ON bindings (environment_id);
CREATE INDEX bindings_ending ON bindings (ends_after);
CREATE INDEX deployments_project ON deployments (project_id);
CREATE INDEX deployments_environment ON deployments (environment_id, state);
CREATE INDEX deployments_current ON deployments (state) WHERE state IN ('deploying', 'active');
CREATE INDEX ports_service ON ports (service_id);
CREATE INDEX ports_deployment ON ports (deployment_id);
CREATE INDEX operations_service ON operations (service_id);
CREATE INDEX operations_project ON operations (project_id);
CREATE INDEX operations_state ON operations (state);
CREATE INDEX events_service ON events (service);
CREATE INDEX events_operation ON events (operation);
CREATE INDEX events_type ON events (type);
CREATE INDEX tokens_project ON tokens (project_id);
CREATE INDEX tokens_environment ON tokens (environment_id);
CREATE INDEX backups_service ON backups (service_id);
CREATE INDEX backups_good ON backups (service_id, service_name, state);
CREATE INDEX backups_schedule ON backups (schedule_id);
CREATE INDEX backups_source ON backups (s3_source_id);
CREATE INDEX backups_expiry ON backups (expires_at);
"""

# JSON, sealed: the variables that a deploy was given beside those of its links, for as long as it
# may have to be brought back.
DEPLOYMENT_VARIABLES = """
ALTER TABLE deployments ADD COLUMN variables TEXT;
"""


# An operation that a person abandoned has ended as well. SQLite can only make a table anew to
# change what it checks.
ABANDONED = """
DROP INDEX operations_unfinished;
ALTER TABLE operations RENAME TO operations_before;
CREATE TABLE operations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    verb TEXT NOT NULL,
    service_id INTEGER,
    project_id INTEGER,
    actor TEXT NOT NULL DEFAULT '',
    arguments TEXT NOT NULL,
    private TEXT,                   -- sealed: what it needs and nobody may read
    state TEXT NOT NULL CHECK (state IN ('running', 'undoing', 'succeeded', 'failed', 'abandoned')),
    error TEXT,
    created_at TEXT NOT NULL,
    ended_at TEXT,
    locks TEXT
) STRICT;
INSERT INTO operations (id, verb, service_id, project_id, actor, arguments, private, state, error, created_at, ended_at, locks)
    SELECT id, verb, service_id, project_id, actor, arguments, private, state, error, created_at, ended_at, locks
    FROM operations_before;
DELETE FROM sqlite_sequence WHERE name = 'operations';
INSERT INTO sqlite_sequence (name, seq) SELECT 'operations', seq FROM sqlite_sequence WHERE name = 'operations_before';
CREATE TABLE steps_anew (
    operation_id INTEGER NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('started', 'done', 'failed', 'undone')),
    started_at TEXT NOT NULL,
    ended_at TEXT,
    PRIMARY KEY (operation_id, name)
) STRICT, WITHOUT ROWID;
INSERT INTO steps_anew (operation_id, name, state, started_at, ended_at)
    SELECT operation_id, name, state, started_at, ended_at FROM steps;
DROP TABLE steps;
ALTER TABLE steps_anew RENAME TO steps;
DROP TABLE operations_before;
CREATE INDEX operations_unfinished ON operations (id) WHERE state IN ('running', 'undoing');
"""

# An account may outlive its link: the number of the deployment that uses it until the next one.
ACCOUNTS_OUTLIVE_LINKS = """
ALTER TABLE bindings ADD COLUMN ends_after INTEGER NOT NULL DEFAULT 0;
"""

# The last deployment there was when a binding, or its password, was chosen: no earlier one has that
# account. Of those that were chosen before it was noted, any may have it.
BINDINGS_CHOSEN_AFTER = """
ALTER TABLE bindings ADD COLUMN chosen_after INTEGER NOT NULL DEFAULT 0;
"""

# The place of a step among those of its operation: a clock may be put back. 0 for those begun
# before it was noted.
STEP_NUMBERS = """
ALTER TABLE steps ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
"""

# 1 for restored data whose project or environment is not here: the first one of that name takes it
# up, once. What belonged to somebody who was here, and left, is nobody's.
BINDINGS_AWAITED = """
ALTER TABLE bindings ADD COLUMN awaited INTEGER NOT NULL DEFAULT 0
"""

# Until when what a rotation has replaced goes on working beside it, where a person asked for that.
BINDINGS_FORMER_UNTIL = """
ALTER TABLE bindings ADD COLUMN former_until TEXT;
CREATE INDEX bindings_former ON bindings (former_until) WHERE former_until IS NOT NULL;
"""

# JSON: further resources that a person asked for, by the names that were given.
BINDINGS_EXTRAS = """
ALTER TABLE bindings ADD COLUMN extras TEXT NOT NULL DEFAULT '{}';
"""

# Each environment whose apps run here has a network of its own. Without a reference: it outlives
# its environment until the engine has removed it.
NETWORKS = """
CREATE TABLE networks (
    id INTEGER PRIMARY KEY,
    environment_id INTEGER NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    subnet TEXT NOT NULL UNIQUE,
    gateway TEXT NOT NULL
) STRICT
"""


# What images are called by the registries that they came from, by their ids; and which image each
# deployment ran.
IMAGE_DIGESTS = """
CREATE TABLE images (id TEXT PRIMARY KEY, digest TEXT NOT NULL) STRICT;
ALTER TABLE deployments ADD COLUMN image_id TEXT NOT NULL DEFAULT ''
"""


# Sessions in a browser. They are of this installation alone: no copy of the state has them.
WEB_SESSIONS = """
CREATE TABLE web_sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    hash TEXT NOT NULL UNIQUE,      -- of what opens it
    token_id INTEGER NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
    peer TEXT NOT NULL,
    agent TEXT NOT NULL,
    created_at TEXT NOT NULL,
    last_used_at TEXT NOT NULL,
    expires_at TEXT NOT NULL
) STRICT;
CREATE INDEX web_sessions_token ON web_sessions (token_id);
"""

# People. A name is never given twice: the journal tells by it. A token stands for a user, or for
# itself alone.
USERS = """
CREATE TABLE users (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    created_at TEXT NOT NULL,
    disabled_at TEXT,
    removed_at TEXT
) STRICT;
ALTER TABLE tokens ADD COLUMN user_id INTEGER REFERENCES users (id);
CREATE INDEX tokens_user ON tokens (user_id);
ALTER TABLE operations ADD COLUMN token_id INTEGER;
"""

# Who did or saw what. Entries are added, and let go from the beginning on once the mark `first` has
# moved: `audit_marks` holds the last entry that is gone, and the newest one, each with a MAC.
# `hash` chains an entry to the one before it.
AUDIT = """
CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    actor TEXT NOT NULL,
    token_id INTEGER,
    origin TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    outcome TEXT NOT NULL,
    status INTEGER NOT NULL,
    reveals TEXT NOT NULL,
    operation_id INTEGER,
    times INTEGER NOT NULL,
    detail TEXT NOT NULL,
    hash TEXT NOT NULL
) STRICT;
CREATE TABLE audit_marks (name TEXT PRIMARY KEY, entry INTEGER NOT NULL, hash TEXT NOT NULL, mac TEXT NOT NULL) STRICT;
CREATE INDEX audit_actor ON audit (actor);
CREATE INDEX audit_target ON audit (target);
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'entries of the audit log stay as they are'); END;
CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit
    WHEN OLD.id > coalesce((SELECT entry FROM audit_marks WHERE name = 'first'), 0)
    BEGIN SELECT RAISE(ABORT, 'entries of the audit log are kept'); END;
"""

# What was installed beside Purveyor: the file that it came from, and the hash of the list of files
# that it brought.
INSTALLED_PLUGINS = """
CREATE TABLE installed_plugins (
    distribution TEXT PRIMARY KEY,
    version TEXT NOT NULL,
    source TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    record_sha256 TEXT NOT NULL,
    installed_at TEXT NOT NULL,
    actor TEXT NOT NULL
) STRICT;
"""

# Who vouches for services' servers, and what it vouches for: keys are sealed. Of the authorities
# one signs (`current`), one may be on its way in (`next`) and one on its way out (`old`).
CERTIFICATES = """
CREATE TABLE authorities (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    state TEXT NOT NULL CHECK (state IN ('next', 'current', 'old')),
    certificate TEXT NOT NULL,
    key TEXT NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL
) STRICT;
CREATE TABLE certificates (
    service_id INTEGER PRIMARY KEY REFERENCES services (id) ON DELETE CASCADE,
    authority_id INTEGER NOT NULL REFERENCES authorities (id),
    names TEXT NOT NULL,
    certificate TEXT NOT NULL,
    key TEXT NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL
) STRICT;
"""

# Whether each backup of a schedule is proven with its contents compared.
VERIFY_DEEP = """
ALTER TABLE schedules ADD COLUMN verify_deep INTEGER NOT NULL DEFAULT 0;
"""

# The newest backup of all when a run that has not ended began: what the schedule has made since is
# of that run. A daemon that was killed goes on with it.
SCHEDULES_UNDER_WAY = """
ALTER TABLE schedules ADD COLUMN under_way INTEGER;
"""

# Which account of which provider a user is: what a provider calls people may be given to another of
# them.
OIDC_ACCOUNTS = """
ALTER TABLE users ADD COLUMN account TEXT;
"""

# what plugins keep of services, by key; a sealed value is encrypted like all secrets
PLUGIN_DOCUMENTS = """
CREATE TABLE plugin_documents (
    plugin TEXT NOT NULL,
    service_id INTEGER NOT NULL REFERENCES services (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    sealed INTEGER NOT NULL CHECK (sealed IN (0, 1)),
    PRIMARY KEY (plugin, service_id, key)
) STRICT;
CREATE INDEX plugin_documents_service ON plugin_documents (service_id)
"""

# JSON: the names of an operation's arguments that are not shown. Whatever an older version did has
# those that it did not show.
OPERATION_INTERNAL = """
ALTER TABLE operations ADD COLUMN internal TEXT;
UPDATE operations SET internal = '["bindings", "new_bindings", "later"]'
"""


def _run(db: Database, script: str) -> None:
    for statement in script.split(";\n"):
        if statement.strip():
            db.execute(statement)


@migrations()
def first(db: Database) -> None:
    _run(db, FIRST)


@migrations()
def environment_tokens(db: Database) -> None:
    _run(db, ENVIRONMENT_TOKENS)


@migrations()
def backups(db: Database) -> None:
    _run(db, BACKUPS)


@migrations()
def imported(db: Database) -> None:
    _run(db, IMPORTED)


@migrations()
def archives(db: Database) -> None:
    _run(db, ARCHIVES)


@migrations()
def looks(db: Database) -> None:
    _run(db, LOOKS)


@migrations()
def operation_locks(db: Database) -> None:
    _run(db, OPERATION_LOCKS)


@migrations()
def abandoned(db: Database) -> None:
    _run(db, ABANDONED)


@migrations()
def accounts_outlive_links(db: Database) -> None:
    _run(db, ACCOUNTS_OUTLIVE_LINKS)


@migrations()
def operation_outcome(db: Database) -> None:
    _run(db, OPERATION_OUTCOME)


@migrations()
def volume_credentials(db: Database) -> None:
    _run(db, VOLUME_CREDENTIALS)


@migrations()
def schedule_zones(db: Database) -> None:
    _run(db, SCHEDULE_ZONES)


@migrations()
def deployment_variables(db: Database) -> None:
    _run(db, DEPLOYMENT_VARIABLES)


@migrations()
def indexes(db: Database) -> None:
    _run(db, INDEXES)


@migrations()
def bindings_chosen_after(db: Database) -> None:
    _run(db, BINDINGS_CHOSEN_AFTER)


@migrations()
def step_numbers(db: Database) -> None:
    _run(db, STEP_NUMBERS)


@migrations()
def bindings_awaited(db: Database) -> None:
    _run(db, BINDINGS_AWAITED)


@migrations()
def environment_networks(db: Database) -> None:
    _run(db, NETWORKS)


@migrations()
def image_digests(db: Database) -> None:
    _run(db, IMAGE_DIGESTS)


@migrations()
def web_sessions(db: Database) -> None:
    _run(db, WEB_SESSIONS)


@migrations()
def named_users(db: Database) -> None:
    _run(db, USERS)


@migrations()
def audit_log(db: Database) -> None:
    _run(db, AUDIT)


@migrations()
def installed_plugins(db: Database) -> None:
    _run(db, INSTALLED_PLUGINS)


@migrations()
def operation_step_names(db: Database) -> None:
    _run(db, STEP_NAMES)


@migrations()
def certificates(db: Database) -> None:
    _run(db, CERTIFICATES)


@migrations()
def verify_deep(db: Database) -> None:
    _run(db, VERIFY_DEEP)


@migrations()
def oidc_accounts(db: Database) -> None:
    _run(db, OIDC_ACCOUNTS)


@migrations()
def bindings_former_until(db: Database) -> None:
    _run(db, BINDINGS_FORMER_UNTIL)


@migrations()
def bindings_extras(db: Database) -> None:
    _run(db, BINDINGS_EXTRAS)


@migrations()
def plugin_documents(db: Database) -> None:
    _run(db, PLUGIN_DOCUMENTS)


@migrations()
def operation_internal(db: Database) -> None:
    _run(db, OPERATION_INTERNAL)


@migrations()
def schedules_under_way(db: Database) -> None:
    _run(db, SCHEDULES_UNDER_WAY)
