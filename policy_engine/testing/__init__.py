"""Tools to test policies and chat templates: Hypothesis strategies and their generators."""
