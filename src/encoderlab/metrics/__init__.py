"""Numbers about features: arrays in, numbers out."""
