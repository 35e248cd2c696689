"""Datasets in and out: readers, writers, batches, engines."""
