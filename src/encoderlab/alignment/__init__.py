"""Align: which vision encoder fits which LLM, and how far a score can be trusted."""
