"""Alembic migrations of the server's database; loaded only for a database that is behind."""
