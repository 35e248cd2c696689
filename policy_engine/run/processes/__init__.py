"""Worker processes: tasks out, results back in order, whatever happens to a process."""
