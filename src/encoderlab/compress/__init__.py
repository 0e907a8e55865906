"""Fewer visual tokens, and what is lost: every method behind one contract."""
