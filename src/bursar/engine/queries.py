"""The engine's named statements."""

from bursar.db.queries import load_queries

QUERIES = load_queries(__file__)
