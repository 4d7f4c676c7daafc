"""What producers and workers agree on. Imports nothing of ours, so that a laptop without torch can hold it."""
