"""The process and its ranks: MPI, sums that do not depend on the ranks, signals, streams, memory and caches."""
