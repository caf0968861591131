"""What Alembic runs: the migrations, in the transaction of the caller's connection.

The connection comes from `whimbrel.store.schema`, or a test. Schema changes of SQLite are transactional here, because
the driver's own transaction handling is off: a migration that fails leaves the old schema.
"""

from alembic import context

from whimbrel.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
