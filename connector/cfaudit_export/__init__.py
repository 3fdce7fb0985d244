"""The public door of `cfaudit_export`."""
