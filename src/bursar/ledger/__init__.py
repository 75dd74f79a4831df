"""Accounts, transfers and holds; and the recipes that turn business events into transfers."""
