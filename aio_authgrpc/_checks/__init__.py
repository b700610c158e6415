"""Arguments of the right type, texts without secrets, no pickle of a secret, and values that never change."""
