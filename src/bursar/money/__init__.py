"""Currencies, amounts in integer minor units, and splitting without losing a unit."""
