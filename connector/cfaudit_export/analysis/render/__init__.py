"""Answers as text, HTML and JSON."""
