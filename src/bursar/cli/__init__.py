"""The command line: one face over the same commands and queries as the API."""
