"""What a sink has already, and what is left of a piece when that is taken away."""
