"""The demo's own small data set, and where its real weights are."""
