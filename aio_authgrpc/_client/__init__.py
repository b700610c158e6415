"""Opening a connection: its target, its arguments, its stubs."""
