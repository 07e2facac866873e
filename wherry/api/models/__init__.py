"""The bodies of the API: one module for each of its tags. Import from the modules; this package is empty for speed."""
