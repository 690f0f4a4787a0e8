"""Dossier Pipelines: five desks' background work as Dagster assets on PostgreSQL."""
