"""A stablecoin off-ramp: pays out of USDC, asynchronously."""
