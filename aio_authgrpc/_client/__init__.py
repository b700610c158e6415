"""Opening a connection."""
