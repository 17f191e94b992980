"""What people read: tables, plots, progress."""
