"""Makes the pages of the site that come from the code; ``extension`` is for Sphinx, the rest works without it."""
