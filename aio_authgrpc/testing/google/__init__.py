"""The endpoints of Google that issue tokens, on the loopback interface."""
