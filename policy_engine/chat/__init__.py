"""A conversation becomes text that knows its origin, labelled segments, and tokens."""
