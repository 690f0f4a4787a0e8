"""Alembic migrations and what runs them: migrate, dry run, backup, restore, reset."""
