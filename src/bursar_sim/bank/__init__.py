"""The simulated instant bank."""
