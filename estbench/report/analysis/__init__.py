"""Numbers of a report, from records alone."""
