"""One module per command: each takes plain parameters and returns its result."""
