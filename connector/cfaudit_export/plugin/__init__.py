"""What a plugin offers, what it promises, and how it is found and loaded."""
