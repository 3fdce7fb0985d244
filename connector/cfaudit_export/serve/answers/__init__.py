"""The arguments of a call and the data in, an answer out: small, honest about what is not there, and harmless."""
