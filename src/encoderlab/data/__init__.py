"""Where samples come from: CSV, folders, chat JSONL, the synthetic world; safe decoding."""
