"""A run becomes a folder: configuration, results, pages."""
