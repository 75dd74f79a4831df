"""Merchants, persons, API keys, and who may do what. See README.md."""
