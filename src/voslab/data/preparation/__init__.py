"""What of a data set is there, what is missing, and what to do about it."""
