"""Tools with no business words. Imports nothing of Bursar."""
