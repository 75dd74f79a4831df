"""What can go wrong between Bursar and Postgres.

    BursarError
    └── DatabaseError               the database cannot be used as it is
        ├── PostgresNotFound        no server binaries on this machine
        ├── PostgresFailed          the embedded server did not start, stop or initialise
        ├── UnsafeDatabase          a setting that could lose or block money is off
        ├── RolePasswordsDiffer     roles are there, with passwords that we were not given
        ├── MigrationFailed         a migration file does not fit the database
        └── QueryFileInvalid        a `.sql` file of named queries does not parse

All of them stop a process at boot; none is caused by what a client sends.
"""

from bursar.kit.errors import BursarError


class DatabaseError(BursarError):
    """The database cannot be used as it is."""

    code = "database_error"
    status = 503
    title = "Database error"


class PostgresNotFound(DatabaseError):
    """No usable server binaries: neither of the system nor of the wheel."""

    code = "postgres_not_found"
    title = "Postgres not found"


class PostgresFailed(DatabaseError):
    """The embedded server refused to initialise, start or stop."""

    code = "postgres_failed"
    title = "Postgres failed"


class UnsafeDatabase(DatabaseError):
    """A setting of the server or of the role that Bursar relies on is off."""

    code = "unsafe_database"
    title = "Unsafe database"


class RolePasswordsDiffer(DatabaseError):
    """Roles are there already, and their passwords are not the ones we were given."""

    code = "role_passwords_differ"
    title = "Role passwords differ"


class MigrationFailed(DatabaseError):
    """Migration files and database disagree; nothing of the failing migration was kept."""

    code = "migration_failed"
    title = "Migration failed"


class QueryFileInvalid(DatabaseError):
    """A file of named queries has a duplicate, an empty query or text without a name."""

    code = "query_file_invalid"
    title = "Query file invalid"
