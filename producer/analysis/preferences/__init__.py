"""Preference pairs: of two replies to a question, the one to learn and the one to unlearn."""
