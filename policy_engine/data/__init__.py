"""Rows in: conversations, their formats, dataset files and readers of files."""
