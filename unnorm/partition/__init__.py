"""log Z: what an estimate is, and a file per estimator."""
