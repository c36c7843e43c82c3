"""The demo's own small data set, and the path of its real weights."""
