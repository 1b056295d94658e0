"""Formats of others, one file each: read, written, or both."""
