"""Our own networks, and where their files come from."""
