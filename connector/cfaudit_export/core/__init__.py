"""Values and pure functions, on the standard library and pyarrow alone; all others build on them."""
