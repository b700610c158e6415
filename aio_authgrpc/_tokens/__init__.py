"""What a token is, and how it is kept."""
