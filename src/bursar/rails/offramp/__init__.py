"""The off-ramp: stablecoins to bank accounts over its own wire, docs/wire/offramp.md."""
