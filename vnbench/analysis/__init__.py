"""Pure functions of records: statistics and summaries."""
