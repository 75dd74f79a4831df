"""The payout: its machine, its attempts at providers, and what providers say of them."""
