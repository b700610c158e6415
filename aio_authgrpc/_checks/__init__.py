"""Arguments of the right type, texts and errors without secrets, and values that never change."""
