"""From samples to features: the extraction loop."""
