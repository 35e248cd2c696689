"""Runs over files: workers, memory, kills, checksums, Ray."""
