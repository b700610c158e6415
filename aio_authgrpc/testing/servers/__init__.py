"""Servers and proxies on the loopback interface."""
