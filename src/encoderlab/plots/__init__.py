"""A result becomes a figure."""
