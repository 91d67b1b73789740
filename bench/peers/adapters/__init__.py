"""One recommender a file, each as `bench.peers.driver.Adapter`. A file is imported in its peer's environment alone."""
