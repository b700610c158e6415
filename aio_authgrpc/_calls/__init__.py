"""One RPC, from the stub to the wire."""
