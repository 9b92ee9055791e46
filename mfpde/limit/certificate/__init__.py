"""The certificate of stationarity: the potential anywhere in parameter space, and its least value there."""
