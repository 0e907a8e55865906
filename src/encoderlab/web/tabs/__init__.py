"""One file per tab: its fields, which settings they make, and what is shown beside the answer."""
