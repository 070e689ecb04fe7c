"""What every method's LightningModule shares: evaluation with the engine, training by unrolling clips."""
