"""Credential files, one module for each type."""
