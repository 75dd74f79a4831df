"""Bursar: payments and payouts that can be proven."""
