"""Figures of the alignment commands: JSON results in, figures out."""
