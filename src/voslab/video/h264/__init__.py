"""H.264 syntax and prediction: headers, reference lists, luma interpolation and motion compensation."""
