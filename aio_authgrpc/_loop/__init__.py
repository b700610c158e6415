"""The event loop, and what is kept off it."""
