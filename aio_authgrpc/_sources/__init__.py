"""Token sources, one module for each kind; `credentials.py` chooses among them."""
