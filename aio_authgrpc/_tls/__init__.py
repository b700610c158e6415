"""Which certificates a channel uses."""
