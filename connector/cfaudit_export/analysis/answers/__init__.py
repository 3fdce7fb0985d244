"""Questions to the exported events, and the values that answer them."""
