"""What is let through: arguments of the right type, texts without a secret, and no pickle of one."""
