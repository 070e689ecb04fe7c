"""What was measured, as pages: records of runs in, a README with tables and figures out."""
