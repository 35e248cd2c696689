"""Accounts that several verbs give: of a run, of the data, of its shapes."""
