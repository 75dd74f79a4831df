"""The instant bank: JSON over HTTP, signed webhooks, ISO 20022 reason codes."""
