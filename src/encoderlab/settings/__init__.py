"""What can be set: one typed dataclass per command, aliases of checkpoints, groups of values."""
