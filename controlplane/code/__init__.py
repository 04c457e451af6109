"""Content-addressed revisions: blobs per user and manifests."""
