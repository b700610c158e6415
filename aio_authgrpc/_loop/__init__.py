"""Time, tasks and threads around the event loop."""
