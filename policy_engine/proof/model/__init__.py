"""What can exist: the fields, positions, regions and outcomes that a policy tells apart."""
