"""Alembic's environment: on the connection that runner.py hands over, or as SQL text only."""

from alembic import context

from dossier_pipelines.shared.tables import METADATA

VERSION_TABLE_SCHEMA = "platform"

connection = context.config.attributes.get("connection")
if connection is None:
    context.configure(
        dialect_name="postgresql",
        output_buffer=context.config.output_buffer,
        as_sql=True,
        version_table_schema=VERSION_TABLE_SCHEMA,
    )
else:
    context.configure(connection=connection, target_metadata=METADATA, version_table_schema=VERSION_TABLE_SCHEMA)
context.run_migrations()
