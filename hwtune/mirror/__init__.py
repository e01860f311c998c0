"""A study's copy in an object store or on a shared disk, kept while it runs, and fetched."""
