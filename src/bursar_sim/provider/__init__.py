"""What every simulated provider does, whatever its wire."""
