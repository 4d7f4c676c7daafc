"""What has been answered, measured: statistics, comparison, preference pairs, report. Reads run stores and workbooks, and nothing else."""
