"""The meeting point of policies and tokens: which token carries which weight, by which rule, and why."""
