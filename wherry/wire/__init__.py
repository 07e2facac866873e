"""Bytes to events and back, without any I/O: what both ends of the API speak on a connection."""
