"""The worker's process: lanes that take due work, and housekeeping."""
