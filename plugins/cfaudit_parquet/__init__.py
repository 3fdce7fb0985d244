"""The parquet sink."""
