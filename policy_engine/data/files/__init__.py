"""Readers of JSON Lines, JSON, Parquet, Arrow, folders and pipes, as numbered rows."""
