"""Settings and plugins become a run."""
