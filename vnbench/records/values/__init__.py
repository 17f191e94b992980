"""Types, identities and caching of the values in specs and records."""
