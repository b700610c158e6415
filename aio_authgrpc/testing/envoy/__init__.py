"""A real Envoy as a process, configured as ESPv2 configures it."""
