"""Words become settings: the command line, and nothing else."""
