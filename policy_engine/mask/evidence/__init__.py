"""Evidence of what a policy does over a whole run: rules that decide nothing, fields that are not there."""
