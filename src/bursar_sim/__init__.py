"""Simulated providers. Shares no code with the engine: only the wire joins them."""
