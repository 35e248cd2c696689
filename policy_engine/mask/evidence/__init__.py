"""Evidence of a whole run: rules that decide nothing, and fields that are not there."""
