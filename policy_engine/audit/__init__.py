"""Labels that somebody else made, compared with a policy."""
