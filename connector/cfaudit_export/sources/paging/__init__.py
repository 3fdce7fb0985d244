"""Pages in, pieces out: what both sources share when they read a log page by page."""
