"""Laws and models fitted to records: step time, memory, loading."""
