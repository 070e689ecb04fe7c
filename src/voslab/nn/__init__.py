"""Parts that several networks share: ResNets, normalisation, aggregation over objects, clip losses."""
