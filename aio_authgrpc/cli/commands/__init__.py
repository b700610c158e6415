"""The commands' options and help. The work of each is in a module of its own, loaded when it runs."""
