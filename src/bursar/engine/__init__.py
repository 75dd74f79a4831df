"""Commands decided in memory and committed in groups. See README.md."""
