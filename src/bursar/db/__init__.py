"""Postgres: finding it, starting it, migrating it, reaching it."""
