"""Seeded schedules of faults over the real product, under a virtual clock."""
