"""Channels over channels, and why a connection failed."""
