"""A policy over a dataset: batches, worker pool, resume, shards, Ray, packing, truncation."""
