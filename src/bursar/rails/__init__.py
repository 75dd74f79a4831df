"""Ways for money to leave: what a provider is asked, what it answered, and what that proves."""
